"""The loss of the encoder-decoder."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.models.components.ssim import SSIM


class LossParts(NamedTuple):
    """Means over pixels and channels; the loss is their sum."""

    l2: torch.Tensor
    ssim: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """The scalar to minimise."""
        return self.l2 + self.ssim


class ReconstructionLoss(nn.Module):
    """L2 + (1 − SSIM), paper 003, eq. 6.

    The paper prints L2 + SSIM. SSIM grows with similarity, so minimising that sum would reward reconstructions unlike
    the image: what is meant can only be the dissimilarity 1 − SSIM, 0 for equal images. L2 is the mean squared
    difference, SSIM the mean over all windows, for images in [0, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.ssim = SSIM()

    def forward(self, reconstruction: torch.Tensor, images: torch.Tensor) -> LossParts:
        """Return the parts of the loss of reconstructions (B, C, H, W) of images of that shape."""
        l2 = F.mse_loss(reconstruction.float(), images.float())
        return LossParts(l2, 1 - self.ssim(reconstruction, images).mean())

"""The focal loss of segmentation."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class FocalLoss(nn.Module):
    """−(1 − p)^γ · log p of the true class, the mean over pixels (Lin et al., ICCV 2017, eq. 4 with γ).

    Every class counts alike, as in the code of DRAEM and DSR. anomalib asks kornia for that with `alpha=1`, which the
    present kornia takes as weights 0 for the background and 1 for anomalies: a network that calls every pixel
    anomalous then has no loss at all.

    Args:
        gamma: how little easy pixels count.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of N×C×H×W logits and N×H×W class numbers."""
        log_p = F.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1))
        return -((1 - log_p.exp()) ** self.gamma * log_p).mean()

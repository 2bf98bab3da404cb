"""From patch scores to a score map of the input's size."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from .blur import SeparableBlur


class MapHead(nn.Module):
    """Enlarge patch scores bilinearly and smooth them, as SimpleNet's released code does (with σ = 4 pixels).

    Its scipy filter repeats the border pixel when it mirrors the map and anomalib's blur does not: the maps
    agree further than 4σ from the border and differ slightly nearer to it.

    Args:
        smoothing: σ of the Gaussian in pixels of the input; 0 leaves the map unsmoothed.
    """

    def __init__(self, smoothing: float = 4.0) -> None:
        super().__init__()
        self.blur = SeparableBlur(sigma=smoothing, channels=1) if smoothing > 0 else nn.Identity()

    def forward(self, patch_scores: torch.Tensor, size: torch.Size | tuple[int, int]) -> torch.Tensor:
        """(B, 1, h, w) -> (B, 1, *size)."""
        enlarged = F.interpolate(patch_scores, size=size, mode="bilinear", align_corners=False)
        smoothed: torch.Tensor = self.blur(enlarged)
        return smoothed

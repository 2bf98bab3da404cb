"""The loss of SimpleNet."""

import torch
from torch import nn

from harness.models.components.loss import LossParts


class TruncatedL1Loss(nn.Module):
    """max(0, margin − real) + max(0, margin + fake), the means over patches: eq. 5 of the SimpleNet paper.

    Args:
        margin: logit beyond which a patch no longer counts (0.5 in the released settings).
    """

    def __init__(self, margin: float = 0.5) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, real: torch.Tensor, fake: torch.Tensor) -> LossParts:
        """Return the parts of the loss for logits of any shape."""
        return LossParts((self.margin - real).clamp(min=0).mean(), (self.margin + fake).clamp(min=0).mean())

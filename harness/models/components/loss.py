"""What every loss on real and fake logits returns."""

from typing import NamedTuple

import torch


class LossParts(NamedTuple):
    """Means over patches; the loss is their sum."""

    real: torch.Tensor
    fake: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """The scalar to minimise."""
        return self.real + self.fake

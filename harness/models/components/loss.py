"""What every loss on real and fake logits returns, and its means over an epoch."""

from collections.abc import Sequence
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


class EpochMeans:
    """Means of a few values over the images of an epoch.

    Lightning's own logging takes 2 ms a step, as long as the step itself on a fast GPU. This is one small tensor
    on the values' device: no synchronisation, and the same sums in the same order.
    """

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None
        self._images = 0

    def add(self, values: Sequence[torch.Tensor], images: int) -> None:
        """Count the scalar means of a batch of so many images."""
        weighted = torch.stack([value.detach() for value in values]) * images
        self._sums = weighted if self._sums is None else self._sums + weighted
        self._images += images

    def take(self) -> torch.Tensor | None:
        """Return the means, one element a value, and start anew; None when nothing was added."""
        means = None if self._sums is None else self._sums / self._images
        self._sums, self._images = None, 0
        return means

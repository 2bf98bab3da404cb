"""What takes the place of a frozen module inside a model: stored features, or the module itself, image by image."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.features.files import FileMap
from harness.features.placeholder import rows_of
from harness.features.store import Kept, Maps

_AGAIN = ": they are computed again in every epoch, on a CPU with the same numbers."
_GONE = f"Stored features are gone, for another run needed their room{_AGAIN} Raise features.limit_gib."

Features = torch.Tensor | dict[str, torch.Tensor]  # (B, C, h, w), or one such tensor a layer


class Source(Protocol):
    """Features by row.

    Args:
        lost: images so far whose features were gone, and had to be computed again.
    """

    lost: int

    def gather(self, rows: torch.Tensor) -> Features:
        """Return the features of rows (B)."""


class StoredFeatures(nn.Module):
    """Answers placeholders with stored features, in place of the frozen module that would compute them.

    Args:
        frozen: the module; kept, so that the model keeps its weights.
        source: the features.
    """

    def __init__(self, frozen: nn.Module, source: Source) -> None:
        super().__init__()
        self.frozen, self.source = frozen, source
        self.served = 0  # images so far that nobody had to compute

    def forward(self, images: torch.Tensor) -> Features:
        """Return what the frozen module makes of the images that placeholders (B, 3, …) stand for."""
        rows, lost = rows_of(images), self.source.lost
        features = self.source.gather(rows)
        self.served += len(rows) - (self.source.lost - lost)
        return features


class ImageByImage(nn.Module):
    """A frozen module that sees one image at a time.

    On a CPU a convolution's rounding depends on how many images come at once. One at a time they give the same
    features in any company, stored or not; and large batches are slower there, for they do not fit the cache.
    """

    def __init__(self, frozen: nn.Module) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, images: torch.Tensor) -> Features:
        """Return the module's features of images (B, 3, …)."""
        if len(images) == 1:
            return self.frozen(images)
        return concatenate([self.frozen(image[None]) for image in images])


class StoredSource:
    """Maps that lie in a store: read as they are asked for.

    Args:
        maps: for every row, layer -> C×h×w.
        device: where they are wanted.
        again: computes the maps of a row whose stored ones are gone: evicted by another process, or damaged.
    """

    def __init__(self, maps: Sequence[Kept], device: torch.device, again: Callable[[int], Maps]) -> None:
        self._maps, self._device, self._again = maps, device, again
        self.lost = 0

    def gather(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """See :class:`Source`; half precision becomes single."""
        chosen = rows.tolist()
        batch = {
            layer: np.empty((len(chosen), *values.shape), values.dtype)
            for layer, values in self._maps[chosen[0]].items()
        }
        for place, row in enumerate(chosen):
            self._read(row, {layer: values[place] for layer, values in batch.items()})
        return {layer: torch.from_numpy(values).to(self._device).float() for layer, values in batch.items()}

    def _read(self, row: int, into: Maps) -> None:
        kept = self._maps[row]
        try:
            for layer, values in into.items():
                _copy(kept[layer], values)
        except (OSError, ValueError) as error:
            gone = isinstance(error, FileNotFoundError)
            tell_once(_GONE if gone else f"Stored features cannot be read ({error}){_AGAIN}")
            self.lost += 1
            again = self._again(row)
            for layer, values in into.items():
                values[...] = again[layer]


def _copy(kept: NDArray[Any] | FileMap, into: NDArray[Any]) -> None:
    if isinstance(kept, FileMap):
        kept.read_into(into)
    else:
        into[...] = kept


class ResidentSource:
    """Features of all rows in memory, on the device that uses them."""

    lost = 0

    def __init__(self, features: Features) -> None:
        self._features = features

    def gather(self, rows: torch.Tensor) -> Features:
        """See :class:`Source`."""
        if isinstance(self._features, dict):
            return {layer: _select(values, rows) for layer, values in self._features.items()}
        return _select(self._features, rows)


@lru_cache(maxsize=64)
def tell_once(text: str) -> None:
    """Tell the user something that concerns many runs of this process; Hydra silences loggers."""
    print(text, file=sys.stderr, flush=True)


def _select(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return rows of values, in memory as they are: channels last stay last, ready for a discriminator."""
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return values.index_select(0, rows)


def concatenate(parts: Sequence[Features]) -> Features:
    """Join features of images along the batch."""
    if isinstance(parts[0], dict):
        return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}  # type: ignore[index]
    return torch.cat(parts)  # type: ignore[arg-type]


def split(features: dict[str, torch.Tensor], dtype: str) -> list[dict[str, NDArray[Any]]]:
    """Return every image's maps (layer -> C×h×w) as arrays of their own."""
    arrays = {layer: values.cpu().numpy().astype(dtype, copy=False) for layer, values in features.items()}
    count = len(next(iter(arrays.values())))
    return [{layer: values[i].copy() for layer, values in arrays.items()} for i in range(count)]

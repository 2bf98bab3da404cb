"""How many normal pixels score above and at each score of a defect pixel: exact, in bounded memory."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics._arrays import Array, Images, as_image, as_sequence, joined

SORTED_AT_ONCE = 2**25
"""Pixels that are sorted together, 128 MiB of float32: more cost memory, fewer cost more searches."""


class Levels(NamedTuple):
    """The distinct scores of defect pixels in rising order (K levels) and what lies at and above them."""

    of_pixel: NDArray[np.int64]  # P: the level of each defect pixel
    defects: NDArray[np.int64]  # K: defect pixels at the level
    normal_at_or_above: NDArray[np.int64]  # K
    normal_above: NDArray[np.int64]  # K
    normals: int

    @property
    def undefined(self) -> bool:
        """Whether defect pixels or normal ones are missing."""
        return self.of_pixel.size == 0 or self.normals == 0


def rank(maps: Images, shapes: Sequence[tuple[int, ...]], pixels: Sequence[Array], limit: float = 1.0) -> Levels:
    """Rank the defect pixels, `pixels[i]` in the flattened map i, among all pixels of all maps.

    The scores of the defect pixels are taken first; then all maps pass through sorted chunks, in each of which
    the levels look up their places. The sums are exact whatever the size of a chunk, no score is rounded, and
    one chunk is all that is held beside what belongs to the defect pixels. Levels whose FPR starts beyond `limit`
    are only known to do so, which saves sorting what lies below.
    """
    if not shapes:
        raise ValueError("there are no images to evaluate")
    checked = _CheckedMaps(maps, shapes)
    scores = joined([checked[i][found] for i, found in enumerate(pixels) if found.size], np.float32)
    level, of_pixel, defects = np.unique(scores, return_inverse=True, return_counts=True)
    normals = checked.size - scores.size
    wanted = math.ceil(limit * normals) + 1 + scores.size  # so many scores hold the limit's share of normal ones
    at_or_above, above = np.zeros(level.size, np.int64), np.zeros(level.size, np.int64)
    # With many defect pixels the searches would outweigh the sorting: chunks grow with them, as all else here does.
    for chunk in _chunks(checked, max(SORTED_AT_ONCE, 4 * level.size)):
        top = _sorted_top(chunk, wanted)
        at_or_above += top.size - np.searchsorted(top, level, side="left")
        above += top.size - np.searchsorted(top, level, side="right")
    defects_at_or_above: NDArray[np.int64] = defects[::-1].cumsum()[::-1]
    return Levels(
        of_pixel, defects, at_or_above - defects_at_or_above, above - (defects_at_or_above - defects), normals
    )


def _sorted_top(scores: Array, count: int) -> Array:
    """The highest `count` scores and all that tie with the last of them, sorted; the input's order is lost."""
    if count < scores.size:
        scores.partition(scores.size - count)
        scores = scores[scores >= scores[-count]]
    scores.sort()
    return scores


class _CheckedMaps:
    """The maps, flattened, each made and checked when it is asked for."""

    def __init__(self, maps: Images, shapes: Sequence[tuple[int, ...]]) -> None:
        self._maps, self._shapes = as_sequence(maps), shapes
        self.size = sum(math.prod(shape) for shape in shapes)
        if len(self._maps) != len(shapes):
            raise ValueError(f"{len(shapes)} masks but {len(self._maps)} maps: one an image is needed")

    def __iter__(self) -> Iterator[Array]:
        return (self[image] for image in range(len(self._shapes)))

    def __getitem__(self, image: int) -> Array:
        array, shape = as_image(self._maps[image], image), self._shapes[image]
        if array.shape != shape:
            raise ValueError(f"image {image}: the map has the shape {array.shape}, its mask {shape}")
        scores = array.ravel()
        if scores.size and not scores.max() < np.inf:
            raise ValueError(f"image {image}: the map holds nan or +inf")
        return scores


def _chunks(maps: _CheckedMaps, size: int) -> Iterator[Array]:
    """All scores of all maps in chunks of `size`; the next chunk overwrites the one before.

    A map of another dtype starts a chunk of the common one, so that no score is rounded.
    """
    buffer, filled, left = np.empty(0, np.bool_), 0, maps.size
    for scores in maps:
        dtype = np.promote_types(buffer.dtype, scores.dtype)
        if dtype != buffer.dtype or not buffer.size:
            yield buffer[:filled]
            buffer, filled = np.empty(min(size, left), dtype), 0
        left -= scores.size
        while scores.size:
            taken = scores[: buffer.size - filled]
            buffer[filled : filled + taken.size] = taken
            scores, filled = scores[taken.size :], filled + taken.size
            if filled == buffer.size:
                yield buffer
                filled = 0
    yield buffer[:filled]

"""Defect regions as positions among the defect pixels, and what each pixel adds to the (s)PRO curve."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from harness.metrics._arrays import Array, as_binary, compact, joined
from harness.metrics._ranks import Levels

Mask = NDArray[np.bool_]


class ImageRegions(NamedTuple):
    """The R regions of one image; `members` lists region by region, as positions among its defect pixels."""

    members: Array
    sizes: Array  # R: pixels
    saturations: Array  # R: pixels, may be fractional


def components(mask: Mask, pixels: Array) -> ImageRegions:
    """The 8-connected regions of a mask (as in MVTec's code), saturated at their whole area."""
    if not pixels.size:
        return listed([], pixels)
    rows, columns = np.divmod(pixels, mask.shape[1])
    box = mask[rows[0] : rows[-1] + 1, columns.min() : columns.max() + 1]  # most defects are small
    labels, _ = ndimage.label(box, structure=np.ones((3, 3)))
    of_pixel = labels[box]
    sizes = np.bincount(of_pixel)[1:]
    members = compact(np.argsort(of_pixel, kind="stable"), pixels.size)
    return ImageRegions(members, sizes, sizes.astype(np.float64))


def listed(regions: Sequence[tuple[Mask, float]], pixels: Array) -> ImageRegions:
    """The given regions, none of them empty, of an image whose defect pixels are `pixels`, flattened."""
    members = [compact(np.searchsorted(pixels, np.flatnonzero(mask)), pixels.size) for mask, _ in regions]
    return ImageRegions(
        joined(members, np.uint8),
        np.array([part.size for part in members], np.int64),
        np.array([saturation for _, saturation in regions], np.float64),
    )


class RegionWeights:
    """The weights of the P defect pixels in (s)PRO, precomputed by rank within the region.

    The k-th highest pixel of a region adds min(1, k/s) - min(1, (k-1)/s). Which of two tied pixels comes
    first does not matter: only the sum at a level counts.
    """

    def __init__(self, images: Sequence[ImageRegions], pixels: Sequence[Array]) -> None:
        first = np.cumsum([0, *(found.size for found in pixels)])
        self._pixels = int(first[-1])
        self._sizes = joined([image.sizes for image in images], np.int64)
        parts = [
            compact(image.members.astype(np.int64) + start, self._pixels)
            for start, image in zip(first, images, strict=False)
        ]
        self._members = joined(parts, np.uint8)
        # Descending ranks: keys rise, so the last one of a region is its highest pixel.
        ends = self._sizes.cumsum()
        rank = np.repeat(ends, self._sizes) - np.arange(self._members.size)
        saturation = np.repeat(joined([image.saturations for image in images], np.float64), self._sizes)
        self._weight = np.minimum(1, rank / saturation) - np.minimum(1, (rank - 1) / saturation)
        self._weight /= max(1, self._sizes.size)

    def rise(self, levels: Levels) -> Array:
        """By how much the curve rises at each of the K levels; over all levels at most 1."""
        # Level numbers are below P, so the sort keys of different regions never mix.
        base = np.repeat(np.arange(self._sizes.size) * self._pixels, self._sizes)
        key = base + levels.of_pixel[self._members]
        key.sort()
        return np.bincount(key - base, weights=self._weight, minlength=levels.defects.size)


def as_regions(regions: Iterable[tuple[Any, float]], shape: tuple[int, ...], image: int) -> list[tuple[Mask, float]]:
    """The regions of an image that have pixels, checked."""
    pairs = [(as_binary(mask, f"a region of image {image}"), float(area)) for mask, area in regions]
    for mask, area in pairs:
        if mask.shape != shape:
            raise ValueError(f"image {image}: a region has the shape {mask.shape}, the image {shape}")
        if mask.any() and not 0 < area < np.inf:
            raise ValueError(f"image {image}: a saturation area must be positive and finite, got {area}")
    return [(mask, area) for mask, area in pairs if mask.any()]


def union(regions: Iterable[tuple[Mask, float]], shape: tuple[int, ...]) -> Mask:
    """Which pixels of an image are in one of its regions."""
    pixels = np.zeros(shape, dtype=np.bool_)
    for mask, _ in regions:
        pixels |= mask
    return pixels

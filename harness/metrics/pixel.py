"""Pixel-level metrics: how well anomaly maps localise the defects, computed exactly from raw scores.

`masks` (1 or True = defect) and `maps` (higher = more anomalous) are (N, H, W), or sequences of (H, W) where
sizes differ; arrays or torch tensors. `regions[i]` is a sequence of `(mask (H, W), saturation area in
pixels)`, empty for a good image; regions may overlap, and one without a pixel (lost in cropping or resizing)
is left out. A map may hold -inf where a pixel was hidden from the model: such pixels rank below all others
and tie with each other. Values are fractions in [0, 1], and nan without a defect pixel or without a normal
one. `ValueError`: numbers of images or their sizes differ, a map holds nan or +inf, a mask is not 0 and 1, a
saturation area or an FPR limit is not valid.

Memory does not grow with the number of images beyond the defect pixels (some 40 bytes each, 110 while maps are
ranked) and one chunk of scores (`_ranks.SORTED_AT_ONCE`). Masks and regions are read once, so they may be
iterators. `maps` may be anything with a length and items that makes a map when it is asked for: the maps of
images with defects are asked for twice, the others once; they must be the same both times.

How: as the threshold falls past a score, the y of a curve (ROC, PRO, sPRO) rises by the weights of the defect
pixels at that score and the FPR by the normal pixels at it, joined by a straight line. So every curve follows
from the scores of the defect pixels and the numbers of normal pixels above and at each of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics._arrays import Array, Images, as_binary, as_image, as_images, as_sequence, compact
from harness.metrics._ranks import Levels, rank
from harness.metrics._regions import ImageRegions, RegionWeights, as_regions, components, listed, union

Regions = Iterable[Sequence[tuple[Any, float]]]
_Mask = NDArray[np.bool_]


def pixel_auroc(masks: Images, maps: Images) -> float:
    """Area under the ROC curve of all pixels of all images; ties count half."""
    return _auroc(_levels(masks, maps))


def pixel_ap(masks: Images, maps: Images) -> float:
    """Average precision over all pixels of all images, Σ (R_k - R_{k-1}) P_k over distinct scores."""
    return _ap(_levels(masks, maps))


def aupro(masks: Images, maps: Images, max_fpr: float = 0.3) -> float:
    """Area under the curve of per-region overlap against FPR up to `max_fpr`, divided by `max_fpr`.

    PRO is the mean, over the 8-connected regions of all masks, of the share of the region that is found; the
    FPR is the share of all normal pixels, those of good images too, that is called defect. The curve has a
    point at every distinct score, starts at (0, 0) and is cut at `max_fpr` by linear interpolation (Bergmann
    et al., "The MVTec Anomaly Detection Dataset", IJCV 2021).
    """
    _check_limit("max_fpr", max_fpr)
    truth = _Truth()
    found = [components(mask, truth.add(mask)) for mask in _masks(masks)]
    return _pro(truth.levels(maps, max_fpr), RegionWeights(found, truth.pixels), max_fpr)


def auspro(regions: Regions, maps: Images, max_fpr: float = 0.05) -> float:
    """As `aupro` with the saturated overlap min(1, found pixels / saturation area) of the given regions.

    A saturation area may be fractional; one larger than its region keeps the region below 1
    (Bergmann et al., "Beyond Dents and Scratches", IJCV 2022, eq. 1).
    """
    _check_limit("max_fpr", max_fpr)
    arrays = as_sequence(maps)
    shapes = (as_image(arrays[image], image).shape for image in range(len(arrays)))
    truth, found = _Truth(), []
    for image, (listed_, shape) in enumerate(_paired("region lists", regions, "maps", shapes)):
        given = as_regions(listed_, shape, image)
        found.append(listed(given, truth.add(union(given, shape))))
    return _pro(truth.levels(arrays, max_fpr), RegionWeights(found, truth.pixels), max_fpr)


class PixelEvaluator:
    """All pixel metrics of many sets of maps (one an epoch) over one ground truth, whose work is done once.

    Each mask must be the union of its image's `regions`. Without `regions`, sPRO uses the 8-connected regions
    of the masks, saturated at their whole area. Masks and regions are read once, image by image, and not kept:
    both may be iterators.
    """

    def __init__(
        self,
        masks: Images,
        regions: Regions | None = None,
        aupro_limit: float = 0.3,
        auspro_limit: float = 0.05,
    ) -> None:
        _check_limit("aupro_limit", aupro_limit)
        _check_limit("auspro_limit", auspro_limit)
        self._limits = aupro_limit, auspro_limit
        self._truth = _Truth()
        if regions is None:
            found = [components(mask, self._truth.add(mask)) for mask in _masks(masks)]
            self._pro = self._spro = RegionWeights(found, self._truth.pixels)
        else:
            pairs = _paired("masks", _masks(masks), "region lists", regions)
            both = [self._add(image, mask, given) for image, (mask, given) in enumerate(pairs)]
            self._pro, self._spro = (RegionWeights(found, self._truth.pixels) for found in zip(*both, strict=True))

    def evaluate(self, maps: Images) -> dict[str, float]:
        """`pixel_auroc`, `pixel_ap`, `aupro` and `auspro` of one map an image, in the order of the masks.

        `maps` may make each map when it is asked for: anything with a length and items.
        """
        levels = self._truth.levels(maps)
        return {
            "pixel_auroc": _auroc(levels),
            "pixel_ap": _ap(levels),
            "aupro": _pro(levels, self._pro, self._limits[0]),
            "auspro": _pro(levels, self._spro, self._limits[1]),
        }

    def _add(self, image: int, mask: _Mask, regions: Sequence[tuple[Any, float]]) -> tuple[ImageRegions, ImageRegions]:
        """Take the next image; return the regions of its mask and the given ones."""
        given = as_regions(regions, mask.shape, image)
        if not np.array_equal(mask, union(given, mask.shape)):
            raise ValueError(f"image {image}: the mask is not the union of its regions")
        pixels = self._truth.add(mask)
        return components(mask, pixels), listed(given, pixels)


class _Truth:
    """Where the defect pixels of each image are: all that is kept of the masks."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.pixels: list[Array] = []

    def add(self, mask: _Mask) -> NDArray[np.int64]:
        """Take the next image; return its defect pixels as positions in the flattened mask."""
        found = np.flatnonzero(mask)
        self.shapes.append(mask.shape)
        self.pixels.append(compact(found, mask.size))
        return found

    def levels(self, maps: Images, limit: float = 1.0) -> Levels:
        return rank(maps, self.shapes, self.pixels, limit)


def _levels(masks: Images, maps: Images) -> Levels:
    truth = _Truth()
    for mask in _masks(masks):
        truth.add(mask)
    return truth.levels(maps)


def _masks(masks: Images) -> Iterator[_Mask]:
    """The masks one by one, checked."""
    image = -1
    for image, mask in enumerate(as_images(masks)):
        yield as_binary(as_image(mask, image), f"mask of image {image}")
    if image < 0:
        raise ValueError("there are no images to evaluate")


def _paired(what: str, items: Iterable[Any], other: str, other_items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The items in pairs; raises `ValueError` where one kind ends before the other."""
    missing = object()
    for count, pair in enumerate(zip_longest(items, other_items, fillvalue=missing)):
        if pair[0] is missing or pair[1] is missing:
            short, long = (what, other) if pair[0] is missing else (other, what)
            raise ValueError(f"{count} {short} but more {long}: one an image is needed")
        yield pair


def _auroc(levels: Levels) -> float:
    if levels.undefined:
        return float("nan")
    return _area(levels, levels.defects / levels.of_pixel.size, 1.0)


def _ap(levels: Levels) -> float:
    if levels.undefined:
        return float("nan")
    found = levels.defects[::-1].cumsum()[::-1]
    precision = found / (found + levels.normal_at_or_above)
    return float(levels.defects @ precision / levels.of_pixel.size)


def _pro(levels: Levels, weights: RegionWeights, limit: float) -> float:
    if levels.undefined:
        return float("nan")
    return _area(levels, weights.rise(levels), limit)


def _area(levels: Levels, rise: Array, limit: float) -> float:
    """The mean height over FPRs in [0, limit] of the curve that rises by `rise` (K) at the levels.

    A level that starts at FPR a, ends at b and rises by r adds r (limit - (a + b) / 2): its ramp and the
    plateau after it. Where the limit cuts the ramp, it adds the triangle r (limit - a)² / (2 (b - a)); beyond
    it, nothing.
    """
    start, end = levels.normal_above / levels.normals, levels.normal_at_or_above / levels.normals
    share = limit - (start + end) / 2
    cut = end > limit
    reached = np.minimum(start[cut], limit)
    share[cut] = (limit - reached) ** 2 / (2 * (end[cut] - reached))
    return float(rise @ share / limit)


def _check_limit(name: str, limit: float) -> None:
    if not 0 < limit <= 1:
        raise ValueError(f"{name} must be a false positive rate in (0, 1], got {limit}")

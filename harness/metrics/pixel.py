"""Pixel-level metrics: how well anomaly maps localise the defects, computed exactly from raw scores.

`masks` (1 or True = defect) and `maps` (higher = more anomalous) are (N, H, W), or sequences of (H, W) where
sizes differ; arrays or torch tensors. `regions[i]` is a sequence of `(mask (H, W), saturation area in
pixels)`, empty for a good image; regions may overlap, and one without a pixel (lost in cropping or resizing)
is left out. A map may hold -inf where a pixel was hidden from the model: such pixels rank below all others
and tie with each other. Values are fractions in [0, 1], and nan without a defect pixel or without a normal
one. `ValueError`: numbers of images or their sizes differ, a map holds nan or +inf, a mask is not 0 and 1, a
saturation area or an FPR limit is not valid.

How: as the threshold falls past a score, the y of a curve (ROC, PRO, sPRO) rises by the weights of the defect
pixels at that score and the FPR by the normal pixels at it, joined by a straight line. So every curve follows
from the scores of the defect pixels and the numbers of normal pixels above and at each of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from harness.metrics._arrays import Array, Images, as_binary, as_images

Regions = Sequence[Sequence[tuple[Any, float]]]
_Index = NDArray[np.int64]
_Floats = NDArray[np.float64]


def pixel_auroc(masks: Images, maps: Images) -> float:
    """Area under the ROC curve of all pixels of all images; ties count half."""
    return _auroc(_Truth(_as_masks(masks)).levels(maps))


def pixel_ap(masks: Images, maps: Images) -> float:
    """Average precision over all pixels of all images, Σ (R_k - R_{k-1}) P_k over distinct scores."""
    return _ap(_Truth(_as_masks(masks)).levels(maps))


def aupro(masks: Images, maps: Images, max_fpr: float = 0.3) -> float:
    """Area under the curve of per-region overlap against FPR up to `max_fpr`, divided by `max_fpr`.

    PRO is the mean, over the 8-connected regions of all masks, of the share of the region that is found; the
    FPR is the share of all normal pixels, those of good images too, that is called defect. The curve has a
    point at every distinct score, starts at (0, 0) and is cut at `max_fpr` by linear interpolation (Bergmann
    et al., "The MVTec Anomaly Detection Dataset", IJCV 2021).
    """
    _check_limit("max_fpr", max_fpr)
    arrays = _as_masks(masks)
    truth = _Truth(arrays)
    return _RegionWeights(truth, _components(arrays)).area(truth.levels(maps), max_fpr)


def auspro(regions: Regions, maps: Images, max_fpr: float = 0.05) -> float:
    """As `aupro` with the saturated overlap min(1, found pixels / saturation area) of the given regions.

    A saturation area may be fractional; one larger than its region keeps the region below 1
    (Bergmann et al., "Beyond Dents and Scratches", IJCV 2022, eq. 1).
    """
    _check_limit("max_fpr", max_fpr)
    arrays = as_images(maps)
    _check_count("region lists", len(regions), "maps", len(arrays))
    given = _as_regions(regions, [array.shape for array in arrays])
    truth = _Truth([_union(found, array.shape) for found, array in zip(given, arrays, strict=True)])
    return _RegionWeights(truth, truth.locate(given)).area(truth.levels(arrays), max_fpr)


class PixelEvaluator:
    """All pixel metrics of many sets of maps (one an epoch) over one ground truth, whose work is done once.

    Each mask must be the union of its image's `regions`. Without `regions`, sPRO uses the 8-connected regions
    of the masks, saturated at their whole area.
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
        arrays = _as_masks(masks)
        self._limits = aupro_limit, auspro_limit
        self._truth = _Truth(arrays)
        self._pro = self._spro = _RegionWeights(self._truth, _components(arrays))
        if regions is not None:
            _check_count("masks", len(arrays), "region lists", len(regions))
            given = _as_regions(regions, self._truth.shapes)
            for image, (mask, found) in enumerate(zip(arrays, given, strict=True)):
                if not np.array_equal(mask, _union(found, mask.shape)):
                    raise ValueError(f"image {image}: the mask is not the union of its regions")
            self._spro = _RegionWeights(self._truth, self._truth.locate(given))

    def evaluate(self, maps: Images) -> dict[str, float]:
        """`pixel_auroc`, `pixel_ap`, `aupro` and `auspro` of one map an image, in the order of the masks."""
        levels = self._truth.levels(maps)
        return {
            "pixel_auroc": _auroc(levels),
            "pixel_ap": _ap(levels),
            "aupro": self._pro.area(levels, self._limits[0]),
            "auspro": self._spro.area(levels, self._limits[1]),
        }


class _Levels(NamedTuple):
    """The distinct scores of defect pixels in rising order (K levels) and what lies at and above them."""

    of_pixel: _Index  # P: the level of each defect pixel
    defects: _Index  # K: defect pixels at the level
    normal_at_or_above: _Index  # K
    normal_above: _Index  # K
    normals: int

    @property
    def undefined(self) -> bool:
        return self.of_pixel.size == 0 or self.normals == 0


class _Truth:
    """Which of all pixels, images laid end to end, are defect pixels; P of them, in rising order."""

    def __init__(self, masks: list[NDArray[np.bool_]]) -> None:
        if not masks:
            raise ValueError("there are no images to evaluate")
        self.shapes = [mask.shape for mask in masks]
        self._starts = np.cumsum([0] + [mask.size for mask in masks])
        found = [start + np.flatnonzero(mask) for start, mask in zip(self._starts, masks, strict=False)]
        self.pixels: _Index = np.concatenate(found)

    def locate(self, regions: list[list[tuple[NDArray[np.bool_], float]]]) -> list[tuple[_Index, float]]:
        """Each region as positions among the P defect pixels, with its saturation area."""
        return [
            (np.searchsorted(self.pixels, start + np.flatnonzero(mask)), saturation)
            for start, found in zip(self._starts, regions, strict=False)
            for mask, saturation in found
        ]

    def levels(self, maps: Images) -> _Levels:
        """Rank the maps' pixels; one sort of all pixels serves every metric."""
        scores = self._scores(maps)
        level, of_pixel, defects = np.unique(scores[self.pixels], return_inverse=True, return_counts=True)
        scores.sort()  # in place: native-resolution test sets take gigabytes
        defects_at_or_above: _Index = defects[::-1].cumsum()[::-1]
        at_or_above = scores.size - np.searchsorted(scores, level, side="left")
        above = scores.size - np.searchsorted(scores, level, side="right")
        return _Levels(
            of_pixel,
            defects,
            at_or_above - defects_at_or_above,
            above - (defects_at_or_above - defects),
            scores.size - of_pixel.size,
        )

    def _scores(self, maps: Images) -> Array:
        """A copy of all scores end to end in the maps' own precision, so that no two scores merge."""
        arrays = as_images(maps)
        _check_count("masks", len(self.shapes), "maps", len(arrays))
        for image, (array, shape) in enumerate(zip(arrays, self.shapes, strict=True)):
            if array.shape != shape:
                raise ValueError(f"image {image}: the map has the shape {array.shape}, its mask {shape}")
            if not np.all(array < np.inf):
                raise ValueError(f"image {image}: the map holds nan or +inf")
        return np.concatenate([array.ravel() for array in arrays])


def _components(masks: list[NDArray[np.bool_]]) -> list[tuple[_Index, float]]:
    """The 8-connected regions of the masks (as in MVTec's code) and their areas, as from `_Truth.locate`."""
    regions = []
    first = 0
    for mask in masks:
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        of_pixel = labels[mask]
        ends = np.bincount(of_pixel, minlength=count + 1)[1:].cumsum()
        members = first + np.argsort(of_pixel, kind="stable")
        regions += [(part, float(part.size)) for part in np.split(members, ends)[:count]]
        first += of_pixel.size
    return regions


class _RegionWeights:
    """The weights of defect pixels in (s)PRO, precomputed by rank within the region.

    The k-th highest pixel of a region adds min(1, k/s) - min(1, (k-1)/s). Which of two tied pixels comes
    first does not matter: only the sum at a level counts.
    """

    def __init__(self, truth: _Truth, regions: list[tuple[_Index, float]]) -> None:
        self._members = _joined([members for members, _ in regions], np.int64)
        sizes = [members.size for members, _ in regions]
        # Level numbers are below P, so the sort keys of different regions never mix.
        self._key_base = np.repeat(np.arange(len(regions)) * truth.pixels.size, sizes)
        steps = [np.diff(np.minimum(1, np.arange(m.size + 1) / s))[::-1] for m, s in regions]
        self._weight: _Floats = _joined(steps, np.float64) / max(1, len(regions))

    def area(self, levels: _Levels, limit: float) -> float:
        """Normalised area under the curve up to the FPR `limit`."""
        if levels.undefined:
            return float("nan")
        key = self._key_base + levels.of_pixel[self._members]
        key.sort()
        rise = np.bincount(key - self._key_base, weights=self._weight, minlength=levels.defects.size)
        return _area(levels, rise, limit)


def _auroc(levels: _Levels) -> float:
    if levels.undefined:
        return float("nan")
    return _area(levels, levels.defects / levels.of_pixel.size, 1.0)


def _ap(levels: _Levels) -> float:
    if levels.undefined:
        return float("nan")
    found = levels.defects[::-1].cumsum()[::-1]
    precision = found / (found + levels.normal_at_or_above)
    return float(levels.defects @ precision / levels.of_pixel.size)


def _area(levels: _Levels, rise: Array, limit: float) -> float:
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


def _as_masks(masks: Images) -> list[NDArray[np.bool_]]:
    return [as_binary(mask, f"mask of image {image}") for image, mask in enumerate(as_images(masks))]


def _as_regions(regions: Regions, shapes: Sequence[tuple[int, ...]]) -> list[list[tuple[NDArray[np.bool_], float]]]:
    """The regions that have pixels, checked."""
    checked = []
    for image, (found, shape) in enumerate(zip(regions, shapes, strict=True)):
        pairs = [(as_binary(mask, f"a region of image {image}"), float(area)) for mask, area in found]
        for mask, area in pairs:
            if mask.shape != shape:
                raise ValueError(f"image {image}: a region has the shape {mask.shape}, the image {shape}")
            if mask.any() and not 0 < area < np.inf:
                raise ValueError(f"image {image}: a saturation area must be positive and finite, got {area}")
        checked.append([(mask, area) for mask, area in pairs if mask.any()])
    return checked


def _union(regions: list[tuple[NDArray[np.bool_], float]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    union = np.zeros(shape, dtype=np.bool_)
    for mask, _ in regions:
        union |= mask
    return union


def _joined(parts: list[Any], dtype: type) -> Array:
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _check_count(what: str, count: int, other: str, other_count: int) -> None:
    if count != other_count:
        raise ValueError(f"{count} {what} but {other_count} {other}: one an image is needed")


def _check_limit(name: str, limit: float) -> None:
    if not 0 < limit <= 1:
        raise ValueError(f"{name} must be a false positive rate in (0, 1], got {limit}")

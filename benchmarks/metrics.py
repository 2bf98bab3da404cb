"""Pixel metrics against scikit-learn, anomalib's AUPRO, sPRO threshold by threshold, and one sort of everything."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np
import torch
from anomalib.metrics.aupro import _AUPRO
from numpy.typing import NDArray
from scipy import ndimage
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.comparison import Comparison, timed
from harness.data.geometry import Geometry
from harness.metrics import PixelEvaluator, aupro, auspro, pixel_ap, pixel_auroc

SATURATED = 0.7  # of a region's area, as where a part of a defect is enough
LIMIT = 0.05
THRESHOLDS = 500
SYNTHETIC = "synthetic maps, a quarter with defects"
Mask = NDArray[np.bool_]
Maps = NDArray[np.float32]
Work = Callable[[], float]
Truth = list[list[tuple[NDArray[np.int64], float]]]
"""Of each image the regions as flat positions, with their saturation areas."""
Regions = list[tuple[Mask, float]]


def measure(quick: bool) -> Iterator[Comparison]:
    """Compare at the size of model inputs, then at native resolution."""
    count, size = (12, 64) if quick else (300, 256)
    yield from _at_model_resolution(Split(count, size, size), 1 if quick else 3)
    yield _native(Split(8, 90, 120, size=64) if quick else Split(500, 1000, 750, size=256))


@dataclass(frozen=True)
class Split:
    """Synthetic images of height×width: smooth maps of `size`², smooth defects on 1 to 3 % of every fourth image.

    The scores of defect and normal pixels overlap.
    """

    count: int
    height: int
    width: int
    size: int = 0

    def mask(self, index: int) -> Mask:
        """The defects of an image: the highest hills of a smooth landscape."""
        if index % 4:
            return np.zeros((self.height, self.width), dtype=bool)
        landscape = _smooth(index, 7, self.height, self.width)
        share = 0.01 + 0.02 * (index % 5) / 4
        return landscape > np.quantile(landscape[::3, ::3], 1 - share)

    def regions(self, index: int) -> Regions:
        """Its 8-connected regions with their saturation areas."""
        labels, count = ndimage.label(self.mask(index), structure=np.ones((3, 3)))
        parts = [labels == label for label in range(1, count + 1)]
        return [(part, SATURATED * float(part.sum())) for part in parts]

    def map(self, index: int) -> Maps:
        """The map that a model would give at its own size."""
        height, width = (self.size or self.height), (self.size or self.width)
        noise = _smooth(1000 + index, height // 8, height, width)
        small = torch.from_numpy(self.mask(index).astype(np.float32))[None, None]
        found = torch.nn.functional.interpolate(small, size=(height, width), mode="area")[0, 0].numpy()
        return noise + 2 * ndimage.gaussian_filter(found, 3)


def _smooth(seed: int, cells: int, height: int, width: int) -> Maps:
    grid = torch.randn((1, 1, cells, cells), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(grid, size=(height, width), mode="bicubic")[0, 0].numpy()


def _at_model_resolution(split: Split, rounds: int) -> Iterator[Comparison]:
    masks, maps = (np.stack([make(i) for i in range(split.count)]) for make in (split.mask, split.map))
    regions = [split.regions(i) for i in range(split.count)]
    truth, scores = masks.ravel(), maps.ravel()
    loop = f"a loop over {THRESHOLDS} thresholds"
    pieces: list[tuple[str, str, Work, Work, float | None]] = [
        (
            "pixel AUROC",
            "scikit-learn",
            lambda: pixel_auroc(masks, maps),
            lambda: float(roc_auc_score(truth, scores)),
            None,
        ),
        (
            "pixel AP",
            "scikit-learn",
            lambda: pixel_ap(masks, maps),
            lambda: float(average_precision_score(truth, scores)),
            None,
        ),
        ("AUPRO", "anomalib", lambda: aupro(masks, maps), lambda: _anomalib_aupro(masks, maps), 10),
        ("AUsPRO", loop, lambda: auspro(regions, maps, LIMIT), lambda: _threshold_loop(masks, regions, maps), 50),
    ]
    size = f"{split.count} maps of {split.height}×{split.width}"
    baseline, values = 0.0, []
    for metric, name, ours, theirs, target in pieces:
        seconds, value, other_seconds, other = _side_by_side(ours, theirs, rounds)
        agreement = _apart(value, other)
        yield Comparison(f"{metric}, {size}", name, seconds, other_seconds, agreement, target, note=SYNTHETIC)
        baseline += other_seconds
        values.append(value)
    seconds, found = timed(lambda: PixelEvaluator(masks, regions).evaluate(maps), 2 * rounds)
    agreement = f"{_apart([*found.values()], values)} to the harness's one by one"
    yield Comparison(
        f"all four pixel metrics, {size}", "the sum of the above", seconds, baseline, agreement, note=SYNTHETIC
    )


def _side_by_side(ours: Work, theirs: Work, rounds: int) -> tuple[float, float, float, float]:
    """The least seconds and the value of each, run in turns."""
    runs = [(timed(ours, 2), timed(theirs)) for _ in range(rounds)]
    (seconds, value), (other_seconds, other) = (min(side) for side in zip(*runs, strict=True))
    return seconds, value, other_seconds, other


def _anomalib_aupro(masks: Mask, maps: Maps) -> float:
    """The metric inside `anomalib.metrics.AUPRO`, without the wrapper that takes it batches of images."""
    metric = _AUPRO(fpr_limit=0.3)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
    return float(metric.compute())


def _threshold_loop(masks: Mask, regions: list[Regions], maps: Maps) -> float:
    """AUsPRO by its definition at evenly spaced thresholds, all of them where the FPR is within the limit."""
    normal = ~masks
    normals = np.count_nonzero(normal)
    lowest = np.quantile(maps[normal], 1 - LIMIT)
    points = [(0.0, 0.0)]
    for threshold in np.linspace(maps.max(), lowest, THRESHOLDS, dtype=np.float32):
        found = maps >= threshold
        fpr = np.count_nonzero(found & normal) / normals
        overlaps = [
            min(1.0, np.count_nonzero(image & region) / area)
            for image, listed in zip(found, regions, strict=True)
            for region, area in listed
        ]
        points.append((fpr, float(np.mean(overlaps))))
    x, y = np.array(points).T
    grid = np.append(x[x < LIMIT], LIMIT)
    return float(trapezoid(np.interp(grid, x, y), grid) / LIMIT)


def _native(split: Split) -> Comparison:
    maps = _Placed([split.map(index) for index in range(split.count)], split.height, split.width)
    truth = [[(np.flatnonzero(mask), area) for mask, area in split.regions(index)] for index in range(split.count)]
    making, _ = timed(lambda: sum(map_.size for map_ in maps))
    ours, value, peak = _traced(lambda: _streamed(truth, maps))
    theirs, other, other_peak = _traced(lambda: _one_sort(truth, maps))
    note = (
        f"{SYNTHETIC}; making the maps from {split.size}×{split.size}, when asked for, is {making:.1f} s of theirs and "
        f"a quarter more of ours; peak memory {peak:.0f} against {other_peak:.0f} MiB; the harness computes all four "
        "pixel metrics in its time, the other AUsPRO alone"
    )
    work = f"AUsPRO, {split.count} native maps of {split.height}×{split.width}, streamed"
    return Comparison(work, "one sort of all in memory", ours, theirs, _apart(value, other) + ", both exact", note=note)


@dataclass(frozen=True)
class _Placed:
    """Maps at native resolution, each made when it is asked for, as the harness's evaluation makes them."""

    small: list[Maps]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.small)

    def __getitem__(self, index: int) -> Maps:
        geometry = Geometry("resize", self.small[index].shape[0], self.small[index].shape[0], None, 0.5)
        return geometry.place(self.small[index], self.height, self.width, "native", "visible")

    def mask(self, *parts: NDArray[Any]) -> Mask:
        """The union of pixels, given as flat positions or as masks."""
        mask = np.zeros((self.height, self.width), dtype=bool)
        for part in parts:
            mask.ravel()[part.ravel()] = True
        return mask


def _streamed(truth: Truth, maps: _Placed) -> float:
    regions, same = tee([(maps.mask(pixels), area) for pixels, area in found] for found in truth)
    masks = (maps.mask(*(mask for mask, _ in found)) for found in same)
    return PixelEvaluator(masks, regions, auspro_limit=LIMIT).evaluate(maps)["auspro"]


def _one_sort(truth: Truth, maps: _Placed) -> float:
    """AUsPRO with every normal score in one sorted array: each rank of each region adds a part of the area."""
    placed = [*maps]
    masks = [maps.mask(*(pixels for pixels, _ in found)) for found in truth]
    normal = np.concatenate([map_[~mask] for map_, mask in zip(placed, masks, strict=True)])
    normal.sort()
    areas = []
    for map_, found in zip(placed, truth, strict=True):
        for pixels, saturation in found:
            scores = np.sort(map_.ravel()[pixels])[::-1]
            gains = np.diff(np.minimum(1, np.arange(scores.size + 1) / saturation))
            areas.append(gains @ _heights(normal, scores))
    return float(np.mean(areas))


def _heights(normal: Maps, scores: Maps) -> NDArray[Any]:
    """The mean over FPRs up to the limit of a curve that steps from 0 to 1 at a score; a ramp where scores tie."""
    start, end = (1 - np.searchsorted(normal, scores, side) / normal.size for side in ("right", "left"))
    cut = np.minimum(end, LIMIT)
    width = np.maximum(end - start, np.finfo(float).tiny)
    ramp = np.where(cut > start, (cut - start) ** 2 / (2 * width), 0)
    return (np.maximum(LIMIT - end, 0) + ramp) / LIMIT


def _traced(work: Work) -> tuple[float, float, float]:
    """Seconds, result, and the peak of NumPy's memory in MiB."""
    tracemalloc.start()
    seconds, value = timed(work)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, value, peak / 2**20


def _apart(value: Any, other: Any) -> str:
    return f"|Δ| = {np.max(np.abs(np.subtract(value, other))):.1e}"

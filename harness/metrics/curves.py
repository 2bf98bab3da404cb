"""Curves over all thresholds, and their means over the runs of several seeds.

`labels` and `scores` as in `image`; images of both kinds are needed, or there is no curve: `ValueError`. A mean curve
is a vertical average: at each abscissa the mean of the ordinates (Fawcett, "An introduction to ROC analysis", Pattern
Recognition Letters 27, 2006, section 9.1). A curve may jump at an abscissa; a mean then has two points there, its
limits from the left and from the right, so that nothing is lost to a grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.metrics._arrays import ArrayLike
from harness.metrics.image import _Decisions, _decisions

Floats: TypeAlias = NDArray[np.float64]
_Curve = TypeVar("_Curve")


class RocCurve(NamedTuple):
    """True over false positive rate, rising from (0, 0) to (1, 1): a point a distinct score."""

    fpr: Floats
    tpr: Floats


class PrecisionRecallCurve(NamedTuple):
    """Precision over recall, from the highest threshold to the lowest: a point a distinct score, no made-up (0, 1)."""

    precision: Floats
    recall: Floats


class MeanCurve(NamedTuple):
    """The mean of several curves, and between which ordinates they lie; straight lines join the points."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats

    @property
    def area(self) -> float:
        """Area under the mean."""
        return float(np.sum(np.diff(self.x) * (self.mean[1:] + self.mean[:-1])) / 2)


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve:
    """The ROC curve; images of one score pass the threshold together, which is one step, aslant where kinds mix."""
    d = _both_kinds(labels, scores)
    fpr, tpr = d.fp / d.negatives, d.tp / d.positives
    return RocCurve(np.concatenate(([0.0], fpr)), np.concatenate(([0.0], tpr)))


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike) -> PrecisionRecallCurve:
    """The precision-recall curve; images of one score are one step. `image_ap` is the area under its stairs."""
    d = _both_kinds(labels, scores)
    return PrecisionRecallCurve(d.tp / (d.tp + d.fp), d.tp / d.positives)


def mean_roc(curves: Iterable[RocCurve], grid: ArrayLike | None = None) -> MeanCurve:
    """Average ROC curves vertically: the mean TPR at each FPR.

    Between the points of a curve lies a straight line, as `image_auroc` counts ties half. Without a grid the mean is
    exact: it has all FPRs of all curves, and since integration is linear, the area under it is the mean of the AUROCs.
    It begins in (0, 0) by itself, and rises at FPR 0 to the mean TPR before the first false alarm.

    Args:
        curves: of one or more seeds; their images may differ.
        grid: FPRs from 0 to 1 to average at instead, where a curve that jumps counts with its upper end. The mean then
            begins in (0, 0) by decree, as in scikit-learn's example of ROC curves with cross-validation (100 steps),
            and the area errs by up to half a step of the grid.
    """
    several = _some(curves)
    if grid is None:
        x = np.unique(np.concatenate([curve.fpr for curve in several]))
        limits = np.array([_limits(curve, x) for curve in several])
        return _mean(np.repeat(x, 2), limits.transpose(0, 2, 1).reshape(len(several), -1))
    x = np.asarray(grid, dtype=np.float64)
    if x.ndim != 1 or x.size < 2 or x[0] != 0 or x[-1] != 1 or (np.diff(x) <= 0).any():
        raise ValueError("the grid must rise from 0 to 1")
    upper = np.array([_limits(curve, x)[1] for curve in several])
    upper[:, 0] = 0.0
    return _mean(x, upper)


def mean_precision_recall(curves: Iterable[PrecisionRecallCurve]) -> MeanCurve:
    """Average precision-recall curves vertically: the mean precision at each recall.

    Each curve is stairs: up to a recall the precision is that of the highest threshold which reaches it, as in
    `image_ap`, for straight lines would promise too much (Davis and Goadrich, "The relationship between
    precision-recall and ROC curves", ICML 2006). The area under the mean is the mean of the APs.
    """
    several = _some(curves)
    x = np.unique(np.concatenate([[0.0], *(curve.recall for curve in several)]))
    found = np.array([curve.precision[np.searchsorted(curve.recall, x[1:])] for curve in several])
    return _mean(np.repeat(x, 2)[1:-1], np.repeat(found, 2, axis=1))


def auroc_of_mean_roc(labels: Sequence[ArrayLike], scores: Sequence[ArrayLike], grid: ArrayLike | None = None) -> float:
    """Area under the mean ROC curve of several seeds: `labels[i]` and `scores[i]` are those of seed i.

    "The AUROCs are given as the area under the averaged ROC curve over the eight experiments": Carvalho et al.,
    "Detecting visual anomalies in an industrial environment", Computers in Industry 163, 2024, Table 11; its Table 6
    has means of AUROCs. How the curves are averaged is not said, nor what deviates by the ± of Table 11. Averaged
    vertically without a grid, as here by default, both are the same number (see `mean_roc`); a grid of 100 steps
    changes it by less than 0.005.
    """
    return mean_roc([roc_curve(*one) for one in zip(labels, scores, strict=True)], grid).area


def _both_kinds(labels: ArrayLike, scores: ArrayLike) -> _Decisions:
    found = _decisions(labels, scores)
    if found.one_class:
        raise ValueError("a curve needs images of both kinds, good and anomalous")
    return found


def _some(curves: Iterable[_Curve]) -> list[_Curve]:
    several = list(curves)
    if not several:
        raise ValueError("there are no curves to average")
    return several


def _limits(curve: RocCurve, x: Floats) -> tuple[Floats, Floats]:
    """The TPRs at which a curve arrives at each FPR from the left, and leaves it to the right."""
    fpr, first = np.unique(curve.fpr, return_index=True)
    last = np.append(first[1:], curve.fpr.size) - 1
    lower, upper = curve.tpr[first], curve.tpr[last]
    before = np.searchsorted(fpr, x, side="right") - 1
    after = np.minimum(before + 1, fpr.size - 1)
    on_point = fpr[before] == x
    share = (x - fpr[before]) / np.where(on_point, 1.0, fpr[after] - fpr[before])
    between = upper[before] + share * (lower[after] - upper[before])
    return np.where(on_point, lower[before], between), np.where(on_point, upper[before], between)


def _mean(x: Floats, ordinates: Floats) -> MeanCurve:
    return MeanCurve(x, ordinates.mean(axis=0), ordinates.min(axis=0), ordinates.max(axis=0))

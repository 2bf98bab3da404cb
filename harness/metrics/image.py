"""Image-level metrics: how well one score an image tells anomalous images from good ones.

All functions take `labels` (N, 1 or True = anomalous) and raw `scores` (N, higher = more anomalous) as
arrays, torch tensors or sequences. An image is called anomalous when score >= threshold; images with equal
scores are always called alike, so the order of the input never matters. Values are fractions in [0, 1], and
nan when only one class is present. `ValueError`: lengths differ, labels are not 0 or 1, scores are not
finite, or an operating point is outside [0, 1].
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics._arrays import Array, ArrayLike, as_binary, as_numpy

TNR_PERCENTS = (99, 95, 90)
PRECISION_PERCENTS = (99.6, 95, 90)

# 19 of 20 is a TNR of 0.95 also where the caller computed 0.95 with a rounding error.
_ROUNDING = 1e-12


class F1Threshold(NamedTuple):
    """The highest F1 score and the threshold that reaches it (score >= threshold is anomalous)."""

    f1: float
    threshold: float


def image_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that an anomalous image outscores a good one, ties half."""
    return _auroc(_decisions(labels, scores))


def image_ap(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision, Σ (R_k - R_{k-1}) P_k over the distinct scores in falling order."""
    return _ap(_decisions(labels, scores))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """The highest F1 score over all thresholds."""
    return _f1(_decisions(labels, scores)).f1


def f1_max_threshold(labels: ArrayLike, scores: ArrayLike) -> F1Threshold:
    """The highest F1 score and its threshold: one of the scores, the highest of equally good ones."""
    return _f1(_decisions(labels, scores))


def tpr_at_tnr(labels: ArrayLike, scores: ArrayLike, tnr: float) -> float:
    """The highest true positive rate among thresholds whose true negative rate is at least `tnr`.

    The thresholds are the test images' own, as the figures of the source suggest: its text speaks of the training set.
    Carvalho et al., "Detecting visual anomalies in an industrial environment", Computers in Industry 163,
    2024.
    """
    return _tpr_at_tnr(_decisions(labels, scores), tnr)


def recall_at_precision(labels: ArrayLike, scores: ArrayLike, precision: float) -> float:
    """The highest recall among thresholds whose precision is at least `precision`, or 0.

    Zipfel et al., "Anomaly detection for industrial quality assurance", Computers & Industrial Engineering
    177, 2023, eq. 3 and 4.
    """
    return _recall_at_precision(_decisions(labels, scores), precision)


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """All image metrics by their MLflow name, with `accuracy` at the F1-max threshold."""
    d = _decisions(labels, scores)
    tprs = {f"tpr_at_tnr_{percent}": _tpr_at_tnr(d, percent / 100) for percent in TNR_PERCENTS}
    recalls = {
        f"recall_at_precision_{percent}": _recall_at_precision(d, percent / 100) for percent in PRECISION_PERCENTS
    }
    found = {"image_auroc": _auroc(d), "image_ap": _ap(d), "f1_max": _f1(d).f1, "accuracy": _accuracy(d)}
    return found | tprs | recalls


def check_finite(scores: Array) -> None:
    """Raise `ValueError`, naming the image, where a score is not finite."""
    if not np.isfinite(scores).all():
        image = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"scores must be finite, but image {image} has the score {scores[image]}")


class _Decisions(NamedTuple):
    """What each distinct score does as a threshold, from the highest to the lowest (K thresholds)."""

    threshold: Array
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    positives: int
    negatives: int

    @property
    def one_class(self) -> bool:
        return self.positives == 0 or self.negatives == 0


def _decisions(labels: ArrayLike, scores: ArrayLike) -> _Decisions:
    truth, values = as_binary(labels, "labels"), as_numpy(scores)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ValueError(
            f"labels and scores must be vectors of one length, got shapes {truth.shape} and {values.shape}"
        )
    check_finite(values)
    threshold, group = np.unique(values, return_inverse=True)
    tp = np.bincount(group[truth], minlength=threshold.size)[::-1].cumsum()
    fp = np.bincount(group[~truth], minlength=threshold.size)[::-1].cumsum()
    return _Decisions(threshold[::-1], tp, fp, int(truth.sum()), int((~truth).sum()))


def _auroc(d: _Decisions) -> float:
    if d.one_class:
        return float("nan")
    tp_before = np.concatenate(([0], d.tp[:-1]))
    twice_area = np.sum(np.diff(d.fp, prepend=0) * (tp_before + d.tp))
    return float(twice_area / (2 * d.positives * d.negatives))


def _ap(d: _Decisions) -> float:
    if d.one_class:
        return float("nan")
    return float(np.sum(np.diff(d.tp, prepend=0) * d.tp / (d.tp + d.fp)) / d.positives)


def _f1(d: _Decisions) -> F1Threshold:
    if d.one_class:
        return F1Threshold(float("nan"), float("nan"))
    f1, best = _f1_at_best(d)
    return F1Threshold(f1, float(d.threshold[best]))


def _accuracy(d: _Decisions) -> float:
    if d.one_class:
        return float("nan")
    _, best = _f1_at_best(d)
    return float((d.tp[best] + d.negatives - d.fp[best]) / (d.positives + d.negatives))


def _f1_at_best(d: _Decisions) -> tuple[float, int]:
    f1 = 2 * d.tp / (d.tp + d.fp + d.positives)
    best = int(np.argmax(f1))
    return float(f1[best]), best


def _tpr_at_tnr(d: _Decisions, tnr: float) -> float:
    _check_fraction("tnr", tnr)
    if d.one_class:
        return float("nan")
    allowed = (d.negatives - d.fp) / d.negatives >= tnr - _ROUNDING
    return float(np.max(d.tp, initial=0, where=allowed) / d.positives)


def _recall_at_precision(d: _Decisions, precision: float) -> float:
    _check_fraction("precision", precision)
    if d.one_class:
        return float("nan")
    allowed = d.tp / (d.tp + d.fp) >= precision - _ROUNDING
    return float(np.max(d.tp, initial=0, where=allowed) / d.positives)


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a fraction in [0, 1], got {value}")

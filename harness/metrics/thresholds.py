"""Thresholds chosen before testing, and what they do: an image is called anomalous when score >= threshold.

Input as in `image`: raw scores as arrays, torch tensors or sequences; `ValueError` where they are empty or not finite.
"""

from typing import NamedTuple

import numpy as np

from harness.metrics._arrays import ArrayLike, as_binary, as_numpy
from harness.metrics.image import check_finite

# 5 of 100 is an FPR of 0.05 also where the caller computed 0.05 with a rounding error.
_ROUNDING = 1e-12


class Confusion(NamedTuple):
    """What a threshold does to labelled images, as counts; the rates are nan where they divide by nothing."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def fpr(self) -> float:
        """Share of the good images that are called anomalous."""
        return _share(self.fp, self.fp + self.tn)

    @property
    def fnr(self) -> float:
        """Share of the anomalous images that are missed."""
        return _share(self.fn, self.fn + self.tp)

    @property
    def precision(self) -> float:
        """Share of the alarms that are right; nan without any alarm."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the anomalous images that are found."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where all is missed, also without any alarm."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Confusion:
    """Count what a threshold does to labelled images; `fpr` and `fnr` are eq. 1 and 2 of the source.

    Carvalho et al., "Detecting visual anomalies in an industrial environment", Computers in Industry 163,
    2024. One class alone is welcome: the rates of the other are nan.
    """
    truth, values = as_binary(labels, "labels"), as_numpy(scores)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ValueError(
            f"labels and scores must be vectors of one length, got shapes {truth.shape} and {values.shape}"
        )
    check_finite(values)
    if np.isnan(threshold):
        raise ValueError("threshold must be a number, got nan")
    # As float64 on both sides: compared with float32 scores, NumPy would round the threshold first.
    alarm = values.astype(np.float64) >= np.float64(threshold)
    tp, alarms, positives = int((alarm & truth).sum()), int(alarm.sum()), int(truth.sum())
    return Confusion(tp, alarms - tp, positives - tp, truth.size - alarms - (positives - tp))


def threshold_at_fpr(normal_scores: ArrayLike, fpr: float) -> float:
    """The lowest threshold that calls at most a share `fpr` of these held-out normal images anomalous.

    It lies just above the highest score that may no longer alarm (the next number of the scores' own type), so normal
    images of that score, however many, are all called good. Of n normal images each is a share of 1/n: an `fpr` below
    1/n gives the threshold of `fpr=0`, right above all of them, and what it does to other images is not known to be
    rarer than about 1/n.

    Raises:
        ValueError: when there are no scores, one is not finite, or `fpr` is not in [0, 1).
    """
    values = as_numpy(normal_scores)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"normal scores must be a vector of at least one score, got the shape {values.shape}")
    check_finite(values)
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr must be a fraction in [0, 1), got {fpr}")
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    may_alarm = int(np.floor((fpr + _ROUNDING) * values.size))
    quiet = np.sort(values)[::-1][min(may_alarm, values.size - 1)]
    return float(np.nextafter(quiet, np.asarray(np.inf, values.dtype)))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")

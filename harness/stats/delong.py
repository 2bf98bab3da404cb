"""DeLong's test for two methods scored on the same images (DeLong et al. 1988, Biometrics 44)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from harness.stats.arrays import as_labels, as_sample, check_share, mean_and_std
from harness.stats.placements import placements


class DeLong(NamedTuple):
    """Two-sided test of equal image AUROC; areas are fractions, nan where there is no test."""

    statistic: float  # standard normal where the areas are equal
    pvalue: float
    auc_a: float
    auc_b: float
    difference: float  # auc_a − auc_b, with its interval
    low: float
    high: float
    std_error: float  # of the difference


def delong(labels: Any, scores_a: Any, scores_b: Any, confidence: float = 0.95) -> DeLong:
    """Test the AUROC of two scorings of the same images for a difference, two-sided.

    The unit is the image: the test tells whether two trained models differ on such images, not whether their methods
    do, for which seeds are needed (:func:`harness.stats.hierarchical_bootstrap`). It rests on the normal distribution,
    which few images or areas near 1 do not bear out.

    One class only, or a score that is not finite: all nan. One image of a class: areas and their difference, the rest
    nan. Where the estimated variance is zero, an equal area (the same ranking, or both perfect) has statistic 0, p = 1
    and the interval [0, 0], which is of these images only; a different area has statistic, p and interval nan, for
    zero is then no estimate (one method separates all images, the other tells none apart).

    Args:
        labels: (N,), 1 or True = anomalous.
        scores_a: (N,) raw scores of one method, higher = more anomalous; images with equal scores count half.
        scores_b: (N,) of the other, on any scale.
        confidence: of the interval.

    Raises:
        ValueError: when lengths differ, a label is neither 0 nor 1, or the confidence does not lie between 0 and 1.
    """
    check_share("confidence", confidence)
    anomalous, a, b = as_labels(labels), as_sample(scores_a), as_sample(scores_b)
    if not anomalous.size == a.size == b.size:
        raise ValueError(f"labels and scores have equal lengths, not {anomalous.size}, {a.size} and {b.size}")
    bad, good = int(anomalous.sum()), int((~anomalous).sum())
    if min(bad, good) == 0 or not np.isfinite([a, b]).all():
        return DeLong(*[math.nan] * 8)
    (bad_a, good_a), (bad_b, good_b) = (placements(scores[anomalous], scores[~anomalous]) for scores in (a, b))
    auc_a, auc_b, difference = (float(wins.sum()) / (bad * good) for wins in (bad_a, bad_b, bad_a - bad_b))
    error_bad = mean_and_std(bad_a - bad_b)[1] / good / math.sqrt(bad)
    error_good = mean_and_std(good_a - good_b)[1] / bad / math.sqrt(good)
    error = math.hypot(error_bad, error_good)
    if error == 0.0 and difference == 0.0:
        return DeLong(0.0, 1.0, auc_a, auc_b, 0.0, 0.0, 0.0, 0.0)
    known = error if error > 0.0 else math.nan
    statistic = difference / known
    half = float(stats.norm.ppf((1 + confidence) / 2)) * known
    pvalue = float(2.0 * stats.norm.sf(abs(statistic)))
    return DeLong(statistic, pvalue, auc_a, auc_b, difference, difference - half, difference + half, error)

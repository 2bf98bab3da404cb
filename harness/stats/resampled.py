"""The corrected resampled t-test for cross-validation (Nadeau and Bengio 2003, Machine Learning 52)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from harness.stats.arrays import as_pairs, mean_and_std


class NadeauBengio(NamedTuple):
    """Two-sided test of equal means over folds; all nan where there is no test."""

    statistic: float
    pvalue: float
    df: float


def nadeau_bengio(a: Any, b: Any, test_train_ratio: float) -> NadeauBengio:
    """Test two methods for equal means over the folds of one (repeated) cross-validation, two-sided.

    Folds share training images, so their differences are correlated and Student's paired test finds differences that
    are not there. This one takes the variance of the mean difference as (1 / n + test_train_ratio) s² instead of
    s² / n; after Bouckaert and Frank (2004, PAKDD) n counts all folds of all repeats. Fewer than two folds, or a value
    that is not finite: all nan. Differences that are all equal have p = 1 where they are zero and p = 0 (statistic
    ±inf) where they are not.

    Args:
        a: one-dimensional array-like, a value a fold of every repeat; `a[i]` belongs to `b[i]`.
        b: the same, of the same length.
        test_train_ratio: test images a fold by its training images, 1 / (k − 1) for k folds.

    Raises:
        ValueError: when the lengths differ or the ratio is not positive and finite.
    """
    a, b = as_pairs(a, b)
    if not (test_train_ratio > 0 and math.isfinite(test_train_ratio)):
        raise ValueError(f"the ratio of test to training images is positive and finite, not {test_train_ratio}")
    differences = a - b
    if differences.size < 2 or not np.isfinite(differences).all():
        return NadeauBengio(math.nan, math.nan, math.nan)
    mean, std = mean_and_std(differences)
    df = float(differences.size - 1)
    if std == 0.0:
        equal = mean == 0.0
        return NadeauBengio(0.0 if equal else math.copysign(math.inf, mean), 1.0 if equal else 0.0, df)
    statistic = mean / (std * math.sqrt(1 / differences.size + test_train_ratio))
    return NadeauBengio(statistic, float(2.0 * stats.t.sf(abs(statistic), df)), df)

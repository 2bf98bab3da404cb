"""Welch's t-test for two independent samples of unequal variance (Welch 1947, Biometrika 34)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scipy import special

from harness.stats.arrays import summarize


class Welch(NamedTuple):
    """Two-sided test of equal means; all nan where there is no test."""

    statistic: float
    pvalue: float
    df: float


NO_TEST = Welch(math.nan, math.nan, math.nan)


def welch(a: Any, b: Any) -> Welch:
    """Test two samples for equal means, two-sided, without assuming equal variances.

    A sample of fewer than two values, or with a value that is not finite, cannot be tested: all nan. Two
    samples without any variance have p = 1 where they are equal and p = 0 (statistic ±inf) where they differ;
    df is then nan.

    Args:
        a: one-dimensional array-like of independent observations.
        b: the same; the lengths may differ.
    """
    return welch_from_summary(*summarize(a), *summarize(b))


def welch_from_summary(mean_a: float, std_a: float, n_a: int, mean_b: float, std_b: float, n_b: int) -> Welch:
    """Test two published "mean ± std over n" for equal means; undefined cases as in :func:`welch`.

    A population standard deviation (ddof 0) is to be multiplied by √(n / (n − 1)) first.

    Args:
        mean_a: mean of the first sample.
        std_a: its sample standard deviation (ddof 1).
        n_a: its number of observations.
        mean_b: mean of the second sample.
        std_b: its sample standard deviation (ddof 1).
        n_b: its number of observations.

    Raises:
        ValueError: when a standard deviation is negative.
    """
    difference = mean_a - mean_b
    error, df = standard_error(std_a, n_a, std_b, n_b)
    if math.isnan(error) or not math.isfinite(difference):
        return NO_TEST
    if error == 0.0:
        if difference == 0.0:
            return Welch(0.0, 1.0, df)
        return Welch(math.copysign(math.inf, difference), 0.0, df)
    statistic = difference / error
    return Welch(statistic, float(2.0 * special.stdtr(df, -abs(statistic))), df)


def standard_error(std_a: float, n_a: int, std_b: float, n_b: int) -> tuple[float, float]:
    """Return the standard error of a difference of two means and its degrees of freedom (Welch-Satterthwaite).

    Both are nan where a sample has fewer than two values or a deviation that is not finite; without any variance the
    error is 0 and the degrees of freedom nan.

    Raises:
        ValueError: when a standard deviation is negative.
    """
    if std_a < 0 or std_b < 0:
        raise ValueError(f"a standard deviation is not negative: {min(std_a, std_b)}")
    if min(n_a, n_b) < 2 or not (math.isfinite(std_a) and math.isfinite(std_b)):
        return math.nan, math.nan
    error_a, error_b = std_a / math.sqrt(n_a), std_b / math.sqrt(n_b)
    error = math.hypot(error_a, error_b)
    if error == 0.0:
        return 0.0, math.nan
    # Shares of the variance neither over- nor underflow.
    share_a, share_b = (error_a / error) ** 2, (error_b / error) ** 2
    return error, 1.0 / (share_a**2 / (n_a - 1) + share_b**2 / (n_b - 1))

"""Intervals by Student's t: for a difference of means, and for what a new observation will be."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scipy import special

from harness.stats.arrays import check_share, summarize
from harness.stats.welch import standard_error


class Difference(NamedTuple):
    """Difference of two means, a − b, with its interval, in the unit of the samples."""

    difference: float
    low: float
    high: float
    df: float


class Interval(NamedTuple):
    """An interval, in the unit of the sample; both nan where there is none."""

    low: float
    high: float


def mean_difference(a: Any, b: Any, confidence: float = 0.95) -> Difference:
    """Return the difference of two means with Welch's confidence interval (Welch 1947, Biometrika 34).

    The interval leaves out 0 exactly where :func:`harness.stats.welch` has p < 1 − confidence. A sample of one value
    has a mean but no variance: low, high and df are nan. A sample that is empty, or has a value that is not finite:
    all nan. Two samples without any variance: low and high are the difference itself and df is nan.

    Args:
        a: one-dimensional array-like of independent observations.
        b: the same; the lengths may differ.
        confidence: share of such intervals that cover the true difference.

    Raises:
        ValueError: when the confidence does not lie between 0 and 1.
    """
    return mean_difference_from_summary(*summarize(a), *summarize(b), confidence)


def mean_difference_from_summary(
    mean_a: float, std_a: float, n_a: int, mean_b: float, std_b: float, n_b: int, confidence: float = 0.95
) -> Difference:
    """Return the difference of two published "mean ± std over n"; arguments as in `welch_from_summary`.

    Undefined cases are as in :func:`mean_difference`.

    Raises:
        ValueError: when a standard deviation is negative or the confidence does not lie between 0 and 1.
    """
    check_share("confidence", confidence)
    error, df = standard_error(std_a, n_a, std_b, n_b)
    difference = mean_a - mean_b
    if not math.isfinite(difference):
        return Difference(math.nan, math.nan, math.nan, math.nan)
    half = 0.0 if error == 0.0 else float(special.stdtrit(df, (1 + confidence) / 2)) * error
    return Difference(difference, difference - half, difference + half, df)


def prediction_interval(sample: Any, confidence: float = 0.95, of: int = 1) -> Interval:
    """Return where one new observation, or the mean of several, will lie: mean ± t s √(1 / of + 1 / n).

    For a new observation of the same normal population, independent of the sample (Hahn and Meeker 1991, Statistical
    Intervals, chapter 4): where the next seed will fall, not where the mean is. The share `confidence` holds for one
    prediction; of many predictions from one sample it holds for none in particular. Fewer than two values, or one
    that is not finite: nan; values that are all equal: their value.

    Args:
        sample: one-dimensional array-like of n independent observations.
        confidence: share of such intervals that the new value falls into.
        of: the new value is the mean of so many new observations.

    Raises:
        ValueError: when `of` is less than 1 or the confidence does not lie between 0 and 1.
    """
    check_share("confidence", confidence)
    if of < 1:
        raise ValueError(f"a mean is of at least one observation, not {of}")
    mean, std, n = summarize(sample)
    if math.isnan(std):
        return Interval(math.nan, math.nan)
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * std * math.sqrt(1 / of + 1 / n)
    return Interval(mean - half, mean + half)

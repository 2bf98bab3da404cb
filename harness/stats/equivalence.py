"""Two one-sided tests for equivalence (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15), each of them Welch's.

That a difference is not significant does not show that there is none; that it is significantly smaller than a margin
which was set beforehand shows that it does not matter.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scipy import special

from harness.stats.arrays import summarize
from harness.stats.intervals import mean_difference_from_summary
from harness.stats.welch import standard_error

_ROUNDING = 1e-9  # of the margin: 0.9 and 0.8 differ by 0.1 also in binary


class Tost(NamedTuple):
    """Test of |mean a − mean b| < margin; nan where there is no test."""

    pvalue: float  # the larger of the next two
    lower_pvalue: float  # against a difference of −margin or less
    upper_pvalue: float  # against a difference of margin or more
    low: float  # interval of confidence 1 − 2 alpha, within ±margin exactly where pvalue < alpha
    high: float
    statistic: float  # how many standard errors the difference is inside the nearer bound
    df: float


def tost(a: Any, b: Any, margin: float, alpha: float = 0.05) -> Tost:
    """Test two samples for means that differ by less than a margin, by two one-sided Welch tests.

    The p value needs no correction for there being two tests, for both have to reject. A sample of fewer than two
    values, or with a value that is not finite, cannot be tested: nan. Without any variance p is 0 where the
    difference is inside the margin and 1 where it is outside or on it, for on the margin (to within rounding, 1e-9 of
    it) the means are not equivalent; the statistic is then ±inf, the interval the difference itself and df nan.

    Args:
        a: one-dimensional array-like of independent observations.
        b: the same; the lengths may differ.
        margin: smallest difference that matters, in the unit of the samples, the same to either side.
        alpha: level; it sets the interval (90 % for 0.05) and no p value.

    Raises:
        ValueError: when the margin is not positive and finite, or alpha does not lie between 0 and 0.5.
    """
    return tost_from_summary(*summarize(a), *summarize(b), margin, alpha)


def tost_from_summary(
    mean_a: float, std_a: float, n_a: int, mean_b: float, std_b: float, n_b: int, margin: float, alpha: float = 0.05
) -> Tost:
    """Test two published "mean ± std over n" for equivalence; the first six arguments as in `welch_from_summary`.

    Undefined cases are as in :func:`tost`.

    Raises:
        ValueError: as in :func:`tost`, and when a standard deviation is negative.
    """
    if not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"a margin is positive and finite, not {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha lies between 0 and 0.5, not {alpha}")
    error, df = standard_error(std_a, n_a, std_b, n_b)
    difference, low, high, _ = mean_difference_from_summary(mean_a, std_a, n_a, mean_b, std_b, n_b, 1 - 2 * alpha)
    if math.isnan(difference) or math.isnan(error):
        return Tost(*[math.nan] * 7)
    lower, upper = (_inside(gap, margin, error) for gap in (margin + difference, margin - difference))
    lower_p, upper_p = (_pvalue(statistic, df) for statistic in (lower, upper))
    return Tost(max(lower_p, upper_p), lower_p, upper_p, low, high, min(lower, upper), df)


def _inside(gap: float, margin: float, error: float) -> float:
    """Return how many standard errors the difference is inside a bound that is `gap` away."""
    if error > 0.0:
        return gap / error
    return math.inf if gap > _ROUNDING * margin else -math.inf


def _pvalue(statistic: float, df: float) -> float:
    """Return the one-sided p value; without variance (df nan) the statistic alone tells."""
    if math.isinf(statistic):
        return 0.0 if statistic > 0 else 1.0
    return float(special.stdtr(df, -statistic))

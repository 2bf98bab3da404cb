"""How many seeds a comparison takes, before it is run.

Power is of a difference that matters, set beforehand, never of the one observed: observed power is a function of the
p value alone (at p = alpha it is about one half) and says nothing that p does not (Hoenig and Heisey 2001, Am. Stat.
55). After the runs, :func:`harness.stats.mean_difference` says which differences are still possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, stats

from harness.stats.arrays import check_share

_NODES = 32  # of the quadrature over the ratio of variances: power to 1e-5
_LARGEST = 1e8  # noncentrality: power is 1 long before, and SciPy gives nan far beyond


def seeds_needed(effect: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return how many seeds each of two methods takes for Student's t-test to find a standardised difference.

    The test is two-sided with samples of equal size, its power that of the noncentral t distribution. The effect is a
    difference that matters in standard deviations, never the observed one: power at that is a function of p.

    Args:
        effect: difference of the means by their standard deviation, of either sign; ±inf takes 2.
        power: chance to find it.
        alpha: level of the test.

    Raises:
        ValueError: when the effect is 0 or nan, alpha or the power does not lie between 0 and 1, or the power is not
            above alpha, which no effect at all has.
    """
    _check(effect, power, alpha)

    def reached(n: int) -> bool:
        df = 2.0 * n - 2
        return bool(_two_sided(stats.t.isf(alpha / 2, df), df, abs(effect) * math.sqrt(n / 2)) >= power)

    return 2 if math.isinf(effect) else _smallest(reached)


def seeds_needed_for_points(
    points: float, std_a: float, std_b: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return how many seeds each of two methods takes for Welch's test to find a difference of so many points.

    The power is exact for normal samples (Moser, Stevens and Watts 1989, Commun. Stat. Theory Methods 18): with few
    seeds the usual noncentral t at the expected degrees of freedom promises far too much. The points are a difference
    that matters, set beforehand, never the observed one: power at that is a function of p. No variance: 2; a deviation
    that is not finite, as that of one seed: nan; else a whole number.

    Args:
        points: difference of the means, of either sign.
        std_a: standard deviation between the seeds of one method, in the unit of the points.
        std_b: that of the other.
        power: chance to find it.
        alpha: level of the test.

    Raises:
        ValueError: when the points are 0 or nan, a standard deviation is negative, or as in :func:`seeds_needed`.
    """
    _check(points, power, alpha)
    std = _root_mean_square(std_a, std_b)
    if not math.isfinite(std):
        return math.nan
    if std == 0.0 or math.isinf(points):
        return 2.0
    standardised = abs(points) / std
    return float(_smallest(lambda n: _welch_power(standardised * math.sqrt(n / 2), std_a, std_b, n, alpha) >= power))


def detectable_points(std_a: float, std_b: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest difference of means that Welch's test finds with n seeds of each method, in points.

    The power is exact as in :func:`seeds_needed_for_points`. It tells what a study of n seeds can see at all, not
    whether the difference it saw is real. No variance: 0, for every difference is found; n of 1 or less, or a
    deviation that is not finite: nan.

    Args:
        std_a: standard deviation between the seeds of one method; the result has its unit.
        std_b: that of the other.
        n: seeds of each method.
        power: chance to find the difference.
        alpha: level of the test.

    Raises:
        ValueError: when a standard deviation is negative, or as in :func:`seeds_needed`.
    """
    _check(math.inf, power, alpha)
    std = _root_mean_square(std_a, std_b)
    if n < 2 or not math.isfinite(std):
        return math.nan
    if std == 0.0:
        return 0.0

    def missing(noncentrality: float) -> float:
        return _welch_power(noncentrality, std_a, std_b, n, alpha) - power

    most = 4.0
    while missing(most) < 0:
        most *= 2
    return float(optimize.brentq(missing, 0.0, most)) * std * math.sqrt(2 / n)


def _check(difference: float, power: float, alpha: float) -> None:
    check_share("alpha", alpha)
    check_share("power", power)
    if power <= alpha:
        raise ValueError(f"power is above alpha ({alpha}), not {power}")
    if difference == 0.0 or math.isnan(difference):
        raise ValueError(f"a difference that matters is not {difference}")


def _root_mean_square(std_a: float, std_b: float) -> float:
    if std_a < 0 or std_b < 0:
        raise ValueError(f"a standard deviation is not negative: {min(std_a, std_b)}")
    return math.hypot(std_a, std_b) / math.sqrt(2)


def _two_sided(critical: Any, df: float, noncentrality: float) -> Any:
    """Return P(|T| > critical) for the noncentral t distribution."""
    noncentrality = min(noncentrality, _LARGEST)
    return stats.nct.sf(critical, df, noncentrality) + stats.nct.sf(critical, df, -noncentrality)


def _welch_power(noncentrality: float, std_a: float, std_b: float, n: int, alpha: float) -> float:
    """Return the power of Welch's test of two samples of n at a difference of so many standard errors.

    Given the share of a's sum of squares in both, which is beta distributed, critical value and ratio of estimated to
    true variance are fixed and Welch's t is a noncentral t of 2 n − 2 degrees of freedom; the mean is over that share.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    share = stats.beta.ppf((nodes + 1) / 2, (n - 1) / 2, (n - 1) / 2)
    true_share = (std_a / math.hypot(std_a, std_b)) ** 2
    part_a, part_b = true_share * share, (1 - true_share) * (1 - share)
    df = (n - 1) * (part_a + part_b) ** 2 / (part_a**2 + part_b**2)
    critical = stats.t.isf(alpha / 2, df) * np.sqrt(2 * (part_a + part_b))
    return float(_two_sided(critical, 2 * n - 2, noncentrality) @ weights / 2)


def _smallest(reached: Callable[[int], bool]) -> int:
    """Return the smallest number from 2 that is enough, where more than enough is enough."""
    most = 2
    while not reached(most):
        most *= 2
    few, enough = most // 2, most
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if reached(middle) else (middle, enough)
    return enough

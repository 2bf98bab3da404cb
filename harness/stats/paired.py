"""Wilcoxon's signed-rank test for paired observations (Wilcoxon 1945, Biometrics Bulletin 1)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from harness.stats.arrays import Floats, as_pairs

EXACT_UP_TO = 50  # pairs, when no difference is zero and no two are equal in size
EXACT_WITH_TIES_UP_TO = 13  # pairs, otherwise; both as in SciPy, so that results can be compared


class Wilcoxon(NamedTuple):
    """Two-sided test of differences symmetric about zero; nan where there is no test."""

    statistic: float  # the smaller of the two rank sums
    pvalue: float
    method: str  # "exact", "normal" or "none"
    n: int  # pairs that differ, on which the test rests


def wilcoxon(a: Any, b: Any) -> Wilcoxon:
    """Test paired samples for a difference, two-sided.

    Pairs without a difference are dropped (Wilcoxon's own rule) and tied sizes share their average rank. The
    p value is exact up to 50 pairs (over all signs of the ranks at hand; up to 13 pairs where zeros or ties
    occur), and beyond that comes from the normal approximation with the variance corrected for ties and no
    continuity correction, as in SciPy. Fewer than two pairs, or a value that is not finite: nan; pairs that are
    all equal: p = 1.

    Args:
        a: one-dimensional array-like; `a[i]` belongs to `b[i]`.
        b: the same, of the same length.

    Raises:
        ValueError: when the lengths differ.
    """
    a, b = as_pairs(a, b)
    differences = a - b
    if a.size < 2 or not np.all(np.isfinite(differences)):
        return Wilcoxon(math.nan, math.nan, "none", 0)
    nonzero = differences[differences != 0.0]
    if nonzero.size == 0:
        return Wilcoxon(0.0, 1.0, "exact", 0)
    ranks = np.asarray(stats.rankdata(np.abs(nonzero)), dtype=np.float64)
    positive = float(ranks[nonzero > 0].sum())
    statistic = min(positive, float(ranks.sum()) - positive)
    clean = nonzero.size == a.size and np.unique(ranks).size == ranks.size
    if a.size <= (EXACT_UP_TO if clean else EXACT_WITH_TIES_UP_TO):
        return Wilcoxon(statistic, _exact_pvalue(ranks, statistic), "exact", nonzero.size)
    return Wilcoxon(statistic, _normal_pvalue(ranks, statistic), "normal", nonzero.size)


def smallest_pvalue(n: int, comparisons: int = 1) -> float:
    """Return the smallest p value that the exact two-sided test of n pairs that differ can have, 2 / 2ⁿ.

    It is that of n differences of one sign; up to one pair nothing can be told (1). No result of five pairs is
    significant at 5 %, for 2 / 2⁵ = 0.0625: :func:`harness.stats.pairs_needed` is the fewest pairs whose smallest
    p value is below a level. That a test of fewer is not significant shows nothing.

    Args:
        n: pairs that differ.
        comparisons: number of tests that Holm corrects for; the smallest corrected p value is so many times as large.

    Raises:
        ValueError: when n is negative or there is no comparison.
    """
    if n < 0 or comparisons < 1:
        raise ValueError(f"no test of {n} pairs among {comparisons} comparisons")
    return min(1.0, comparisons * 2.0 ** (1 - n))


def wilcoxon_by_unit(a: Mapping[Hashable, float], b: Mapping[Hashable, float]) -> Wilcoxon:
    """Test two samples for a difference on the units that both have; what only one has is left out."""
    units = [unit for unit in a if unit in b]
    return wilcoxon([a[unit] for unit in units], [b[unit] for unit in units])


def pairs_needed(alpha: float) -> int:
    """Return how many pairs Wilcoxon's exact two-sided test takes to be able to fall below a level: 9 for 0.005.

    All n differences of one sign have p = 2 / 2ⁿ, the smallest there is (:func:`harness.stats.smallest_pvalue`).
    """
    return math.floor(1 - math.log2(alpha)) + 1


def _exact_pvalue(ranks: Floats, statistic: float) -> float:
    """Return P(smaller rank sum ≤ statistic) when every rank is positive or negative with equal chance."""
    doubled = np.rint(2 * ranks).astype(int)  # average ranks are multiples of one half
    ways = np.zeros(doubled.sum() + 1)  # ways[s]: sign patterns whose positive ranks sum to s / 2
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
    tail = ways[: round(2 * statistic) + 1].sum() / 2.0 ** len(ranks)
    return float(min(1.0, 2.0 * tail))


def _normal_pvalue(ranks: Floats, statistic: float) -> float:
    """Return the normal approximation's two-sided p value; the sum of squared ranks corrects for ties."""
    z = (statistic - ranks.sum() / 2) / math.sqrt(float(np.square(ranks).sum()) / 4)
    return float(2.0 * stats.norm.sf(abs(z)))

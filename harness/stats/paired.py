"""Wilcoxon's signed-rank test for paired observations (Wilcoxon 1945, Biometrics Bulletin 1)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from harness.stats.arrays import Floats, as_sample

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
    a, b = as_sample(a), as_sample(b)
    if a.size != b.size:
        raise ValueError(f"paired samples have equal lengths, not {a.size} and {b.size}")
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

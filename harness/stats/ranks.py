"""Many methods over many units by their ranks (Demšar 2006, JMLR 7): the unit is a category or a data set.

Scores are arrays units × methods. A hole is an error, for a mean rank over other units is no rank in this comparison.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from harness.stats.arrays import Floats, as_matrix, check_share
from harness.stats.multiplicity import holm
from harness.stats.paired import wilcoxon


class Friedman(NamedTuple):
    """Test of k methods that rank alike over n units; tests are nan where there are none."""

    statistic: float  # chi-squared of k − 1 degrees of freedom
    pvalue: float
    mean_ranks: Floats  # (k,), 1 = best
    iman_davenport: float  # F of k − 1 and (k − 1) (n − 1) degrees of freedom
    iman_davenport_pvalue: float
    n: int
    k: int


def friedman(scores: Any, higher_is_better: bool = True) -> Friedman:
    """Test whether methods differ in rank (Friedman 1937, JASA 32; Iman and Davenport 1980, Commun. Stat. A 9).

    Equal scores share their average rank and the statistic is corrected for such ties, as in SciPy. Iman and
    Davenport's F, from the corrected statistic, is the less conservative of the two; both are approximations that few
    units do not bear out. Units that all rank alike, without ties: F is inf, its p value 0. Methods that are equal in
    every unit: statistics 0 and p = 1. One unit: no test (nan).

    Args:
        scores: units × methods.
        higher_is_better: whether the best score has rank 1 or the worst.

    Raises:
        ValueError: when a score is not finite (the unit is named, in a data frame by its label), or there are fewer
            than two methods or no unit.
    """
    ranks = _ranks(scores, higher_is_better)
    n, k = ranks.shape
    mean_ranks = ranks.mean(axis=0)
    if n < 2:
        return Friedman(math.nan, math.nan, mean_ranks, math.nan, math.nan, n, k)
    # Twice the ranks are whole numbers, so that the sums of squares are exact: between methods, and in all.
    between = float(np.square(2 * ranks.sum(axis=0) - n * (k + 1)).sum())
    total = float(np.square(2 * ranks - (k + 1)).sum())
    if total == 0.0:
        return Friedman(0.0, 1.0, mean_ranks, 0.0, 1.0, n, k)
    statistic, rest = (k - 1) * between / total, n * total - between
    f = (n - 1) * between / rest if rest > 0.0 else math.inf
    return Friedman(
        statistic,
        float(stats.chi2.sf(statistic, k - 1)),
        mean_ranks,
        f,
        float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
        n,
        k,
    )


def critical_difference(k: int, n: int, alpha: float = 0.05) -> float:
    """Return by how much the mean ranks of two of k methods over n units differ significantly (Nemenyi 1963).

    q √(k (k + 1) / (6 n)), q the studentized range of k groups and infinite degrees of freedom by √2: a level for all
    pairs at once.

    Raises:
        ValueError: when there are fewer than two methods or no unit, or alpha does not lie between 0 and 1.
    """
    check_share("alpha", alpha)
    if k < 2 or n < 1:
        raise ValueError(f"ranks are of at least two methods on one unit, not {k} on {n}")
    return float(stats.studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2) * _rank_error(k, n)


def nemenyi(scores: Any) -> Floats:
    """Return the p values (k, k) of Nemenyi's test for all pairs of methods, 1 on the diagonal.

    They are corrected for the number of pairs, and below alpha exactly where mean ranks differ by more than
    :func:`critical_difference`. Whether higher is better does not matter. The variance of the ranks is that without
    ties: with ties the test is conservative. One unit: no test (nan off the diagonal). Note that the p value of a pair
    depends on the other methods (Benavoli et al. 2016, JMLR 17): :func:`wilcoxon_posthoc` does so by Holm only.

    Args:
        scores: units × methods.

    Raises:
        ValueError: as in :func:`friedman`.
    """
    ranks = _ranks(scores, True)
    n, k = ranks.shape
    mean_ranks = ranks.mean(axis=0)
    differences = np.abs(mean_ranks[:, None] - mean_ranks) / _rank_error(k, n)
    pvalues = np.asarray(stats.studentized_range.sf(differences * math.sqrt(2), k, np.inf), dtype=np.float64)
    if n < 2:
        pvalues[:] = np.nan
    np.fill_diagonal(pvalues, 1.0)
    return pvalues


def wilcoxon_posthoc(scores: Any) -> Floats:
    """Return the p values (k, k) of Wilcoxon's signed-rank test for all pairs of methods, 1 on the diagonal.

    They are corrected by Holm for the k (k − 1) / 2 pairs, and given also where no values whatever could be
    significant: `smallest_pvalue(n, k * (k - 1) // 2)` is the smallest that n units can reach, to be shown with them.
    One unit: no test (nan off the diagonal).

    Args:
        scores: units × methods.

    Raises:
        ValueError: as in :func:`friedman`.
    """
    values = _complete(scores)
    k = values.shape[1]
    pairs = list(itertools.combinations(range(k), 2))
    pvalues = np.eye(k)
    rows, columns = np.array(pairs).T
    pvalues[rows, columns] = holm([wilcoxon(values[:, i], values[:, j]).pvalue for i, j in pairs])
    pvalues[columns, rows] = pvalues[rows, columns]
    return pvalues


def cliques(mean_ranks: Any, separated: Any) -> tuple[tuple[int, ...], ...]:
    """Return the bars of a critical-difference diagram: groups of methods among which no pair is separated.

    A group has two methods or more, next to each other in rank, and is as large as it can be; a pair that is not
    separated although one between them is separated from either has no bar. Methods are indices into `mean_ranks`,
    best first; of equal ranks the earlier comes first.

    Args:
        mean_ranks: (k,), 1 = best.
        separated: (k, k), symmetric, whether a test separates two methods; the diagonal does not count.

    Raises:
        ValueError: when the shapes differ or `separated` is not symmetric.
    """
    ranks, apart = np.asarray(mean_ranks, dtype=np.float64), np.asarray(separated, dtype=bool)
    if ranks.ndim != 1 or apart.shape != (ranks.size, ranks.size) or not np.array_equal(apart, apart.T):
        raise ValueError(f"k mean ranks go with a symmetric k x k matrix, not {ranks.shape} with {apart.shape}")
    order = np.argsort(ranks, kind="stable")
    apart = apart[np.ix_(order, order)]
    groups: list[tuple[int, int]] = []
    for first in range(ranks.size):
        end = first + 1
        while end < ranks.size and not apart[first:end, end].any():
            end += 1
        if end - first > 1 and not (groups and groups[-1][1] == end):
            groups.append((first, end))
    return tuple(tuple(order[first:end].tolist()) for first, end in groups)


def _complete(scores: Any) -> Floats:
    """Return the scores as an array without holes."""
    values = as_matrix(scores)
    if values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(f"ranks are of at least two methods on one unit, not of shape {values.shape}")
    holes = np.argwhere(~np.isfinite(values))
    if holes.size:
        unit, method = holes[0].tolist()
        name = scores.index[unit] if hasattr(scores, "iloc") else unit  # of a data frame
        raise ValueError(f"unit {name} has no finite score of method {method} ({len(holes)} holes in all)")
    return values


def _ranks(scores: Any, higher_is_better: bool) -> Floats:
    """Return ranks within each unit, 1 = best."""
    values = _complete(scores)
    return np.asarray(stats.rankdata(-values if higher_is_better else values, axis=1), dtype=np.float64)


def _rank_error(k: int, n: int) -> float:
    """Return the standard error of a difference of two mean ranks without ties, of k methods over n units."""
    return math.sqrt(k * (k + 1) / (6 * n))

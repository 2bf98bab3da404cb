"""Rank tests against Demšar's published example and table, SciPy, and by their properties."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from harness.stats import (
    cliques,
    critical_difference,
    friedman,
    holm,
    nemenyi,
    smallest_pvalue,
    wilcoxon,
    wilcoxon_posthoc,
)

# Demšar 2006, Table 6: AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets. In the row before the last the
# third is printed as 0.975 too, yet ranked before the fourth.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
SCORES = arrays.arrays(float, st.tuples(st.integers(2, 6), st.integers(2, 5)), elements=st.integers(0, 5))
SMALL = settings(deadline=None, max_examples=50)


def test_published_example() -> None:
    """Demšar's mean ranks; his χ² = 9.28 and F = 3.69 follow from them (he does not correct for ties, which we do)."""
    result = friedman(DEMSAR)
    assert result.mean_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    n, k = result.n, result.k
    chi = 12 * n / (k * (k + 1)) * (np.square(result.mean_ranks).sum() - k * (k + 1) ** 2 / 4)
    assert chi == pytest.approx(9.28, abs=0.01)
    assert (n - 1) * chi / (n * (k - 1) - chi) == pytest.approx(3.69, abs=0.01)
    ties = 1 - (3 * (2**3 - 2) + (4**3 - 4)) / (n * (k**3 - k))  # three pairs and one four
    assert result.statistic == pytest.approx(chi / ties)
    assert result.iman_davenport > 3.69


def test_published_critical_differences() -> None:
    """His section 3.2.2: CD = 1.25 at 5 % and 1.12 at 10 %."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.005)


def test_published_verdicts_and_bars() -> None:
    """At 5 % nothing differs; at 10 % C4.5 differs from C4.5+m and C4.5+m+cf, and that is all: two bars."""
    p, ranks = nemenyi(DEMSAR), friedman(DEMSAR).mean_ranks
    assert cliques(ranks, p < 0.05) == ((3, 1, 2, 0),)
    assert {(int(i), int(j)) for i, j in np.argwhere(np.triu(p < 0.10))} == {(0, 1), (0, 3)}
    assert cliques(ranks, p < 0.10) == ((3, 1, 2), (2, 0))


@pytest.mark.parametrize(
    ("k", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_published_quantiles(k: int, q: float) -> None:
    """His Table 5 (a), the studentized range by √2 at 5 %."""
    n = 20
    assert critical_difference(k, n) / math.sqrt(k * (k + 1) / (6 * n)) == pytest.approx(q, abs=1e-3)


@pytest.mark.parametrize("shape", [(5, 3), (12, 7), (40, 4)])
@pytest.mark.parametrize("levels", [4, 10**6])
def test_friedman_agrees_with_scipy(shape: tuple[int, int], levels: int) -> None:
    scores = np.random.default_rng(sum(shape)).integers(0, levels, shape)
    expected = stats.friedmanchisquare(*scores.T)
    assert friedman(scores)[:2] == pytest.approx((expected.statistic, expected.pvalue))
    assert friedman(scores, higher_is_better=False)[:2] == pytest.approx(tuple(expected))


def test_iman_davenport_is_the_analysis_of_variance_of_ranks() -> None:
    """F of the ranks of methods in blocks that all have one mean: SciPy's one-way F with fewer degrees of freedom."""
    scores = np.random.default_rng(1).normal(size=(9, 4))
    n, k = scores.shape
    f = stats.f_oneway(*stats.rankdata(scores, axis=1).T).statistic * (k - 1) * (n - 1) / (k * (n - 1))
    result = friedman(scores)
    assert result.iman_davenport == pytest.approx(f)
    assert result.iman_davenport_pvalue == pytest.approx(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))


@SMALL
@given(SCORES, st.randoms())
def test_properties(scores: np.ndarray, random: object) -> None:
    result, reverse = friedman(scores), friedman(scores, higher_is_better=False)
    k = scores.shape[1]
    assert result.mean_ranks.sum() == pytest.approx(k * (k + 1) / 2)
    assert reverse.mean_ranks == pytest.approx(k + 1 - result.mean_ranks)
    assert reverse[:2] == result[:2]
    order = list(range(k))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert friedman(np.exp(scores[:, order])).mean_ranks == pytest.approx(result.mean_ranks[order])
    assert friedman(scores[:, order]).statistic == pytest.approx(result.statistic)
    p = nemenyi(scores)
    assert np.array_equal(p, p.T) and np.all(np.diag(p) == 1)
    assert nemenyi(scores[:, order]) == pytest.approx(p[np.ix_(order, order)])


def test_two_methods_have_the_sign_test() -> None:
    """Of two methods χ² is that of the signs and Nemenyi's p that of its normal approximation."""
    scores = np.array([[1, 0]] * 9 + [[0, 1]] * 3)
    z = (9 - 6) / math.sqrt(12 / 4)
    assert friedman(scores).statistic == pytest.approx(z**2)
    assert nemenyi(scores)[0, 1] == pytest.approx(2 * stats.norm.sf(z), rel=1e-6)


@pytest.mark.parametrize("k", [3, 6])
def test_nemenyi_rejects_beyond_the_critical_difference(k: int) -> None:
    scores = np.random.default_rng(k).normal(size=(15, k)) + np.linspace(0, 1.5, k)
    ranks = friedman(scores).mean_ranks
    beyond = np.abs(ranks[:, None] - ranks) > critical_difference(k, 15)
    assert beyond.any() and not beyond[~np.eye(k, dtype=bool)].all()
    assert np.array_equal(nemenyi(scores) < 0.05, beyond)


def test_nemenyi_keeps_its_level_for_all_pairs_at_once() -> None:
    ranks = np.random.default_rng(0).normal(size=(20000, 15, 5)).argsort(axis=2).argsort(axis=2).mean(axis=1)
    assert np.mean(np.ptp(ranks, axis=1) > critical_difference(5, 15)) == pytest.approx(0.05, abs=0.015)


def test_wilcoxon_posthoc_is_holm_over_all_pairs() -> None:
    scores = np.random.default_rng(7).normal(size=(12, 4)) + np.linspace(0, 2, 4)
    pairs = list(itertools.combinations(range(4), 2))
    expected = holm([stats.wilcoxon(scores[:, i], scores[:, j]).pvalue for i, j in pairs])
    p = wilcoxon_posthoc(scores)
    assert [p[i, j] for i, j in pairs] == pytest.approx(expected.tolist())
    assert np.array_equal(p, p.T) and np.all(np.diag(p) == 1)


def test_smallest_pvalue_of_the_posthoc_is_reached_by_one_order() -> None:
    scores = np.arange(6.0)[:, None] + 10.0 ** np.arange(3)
    assert wilcoxon_posthoc(scores)[0, 1] == pytest.approx(smallest_pvalue(6, comparisons=3))
    assert wilcoxon_posthoc(scores[:4])[0, 1] == smallest_pvalue(4, comparisons=3) == 0.375
    assert wilcoxon_posthoc(scores[:, :2])[0, 1] == wilcoxon(scores[:, 0], scores[:, 1]).pvalue


def brute_cliques(order: list[int], apart: np.ndarray) -> set[tuple[int, ...]]:
    runs = [tuple(order[i:j]) for i in range(len(order)) for j in range(i + 2, len(order) + 1)]
    joined = [run for run in runs if not any(apart[i, j] for i, j in itertools.combinations(run, 2))]
    return {run for run in joined if not any(set(run) < set(other) for other in joined)}


@SMALL
@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_cliques_by_brute_force(k: int, random: object) -> None:
    ranks = [random.random() for _ in range(k)]  # type: ignore[attr-defined]
    upper = np.array([[random.random() < 0.3 for _ in range(k)] for _ in range(k)])  # type: ignore[attr-defined]
    apart = np.triu(upper, 1) | np.triu(upper, 1).T
    order = sorted(range(k), key=ranks.__getitem__)
    found = cliques(ranks, apart)
    assert set(found) == brute_cliques(order, apart) and len(found) == len(set(found))


def test_cliques_by_hand() -> None:
    apart = np.zeros((3, 3), dtype=bool)
    apart[0, 1] = apart[1, 0] = True
    assert cliques([1, 2, 3], apart) == ((1, 2),)  # 0 and 2 are not next to each other
    assert cliques([1, 3, 2], apart) == ((0, 2), (2, 1))
    assert cliques([2, 2, 2], np.zeros((3, 3))) == ((0, 1, 2),)
    assert cliques([1, 2], ~np.eye(2, dtype=bool)) == ()
    with pytest.raises(ValueError, match="symmetric"):
        cliques([1, 2, 3], np.triu(np.ones((3, 3))))
    with pytest.raises(ValueError, match="symmetric"):
        cliques([1, 2], np.zeros((3, 3)))


def test_degenerate_scores() -> None:
    equal = friedman(np.ones((5, 3)))
    assert (equal.statistic, equal.pvalue, equal.iman_davenport, equal.iman_davenport_pvalue) == (0, 1, 0, 1)
    assert np.all(nemenyi(np.ones((5, 3))) == 1) and np.all(wilcoxon_posthoc(np.ones((5, 3))) == 1)
    alike = friedman(np.tile([3.0, 2.0, 1.0], (5, 1)))
    assert (alike.statistic, alike.iman_davenport, alike.iman_davenport_pvalue) == (10.0, math.inf, 0.0)
    assert alike.pvalue == pytest.approx(stats.chi2.sf(10, 2))


def test_one_unit_is_no_test() -> None:
    one = friedman([[0.9, 0.8, 0.7]])
    assert one.mean_ranks.tolist() == [1, 2, 3]
    assert all(map(math.isnan, (one.statistic, one.pvalue, one.iman_davenport, one.iman_davenport_pvalue)))
    for p in (nemenyi([[0.9, 0.8, 0.7]]), wilcoxon_posthoc([[0.9, 0.8, 0.7]])):
        assert np.isnan(p[~np.eye(3, dtype=bool)]).all() and np.all(np.diag(p) == 1)


@pytest.mark.parametrize("test", [friedman, nemenyi, wilcoxon_posthoc])
def test_holes_are_named(test: object) -> None:
    scores = np.ones((4, 3))
    scores[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"unit 2 has no finite score of method 1 \(1 holes"):
        test(scores)  # type: ignore[operator]
    with pytest.raises(ValueError, match="unit screw has no"):
        test(pd.DataFrame(scores, index=["bottle", "cable", "screw", "zipper"]))  # type: ignore[operator]
    with pytest.raises(ValueError, match="two methods"):
        test(np.ones((4, 1)))  # type: ignore[operator]
    with pytest.raises(ValueError, match="two dimensions"):
        test(np.ones(4))  # type: ignore[operator]


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="two methods"):
        critical_difference(1, 14)
    with pytest.raises(ValueError, match="alpha"):
        critical_difference(4, 14, alpha=5)

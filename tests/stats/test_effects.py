"""Effect sizes against statsmodels, SciPy, brute force and published examples."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from statsmodels.stats.effect_size import _noncentrality_t
from statsmodels.stats.nonparametric import rank_compare_2indep

from harness.stats import hedges_g, hedges_g_from_summary, probability_of_superiority, rank_biserial, welch, wilcoxon

VALUES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=10)
INTEGERS = st.lists(st.integers(0, 4), min_size=2, max_size=8)
SMALL = settings(deadline=None, max_examples=50)


# ---- Hedges' g


def test_hedges_g_of_a_published_example() -> None:
    """Borenstein et al. 2009, Introduction to Meta-Analysis, chapter 4: d = 0.5970, J = 0.9923, g = 0.5924."""
    assert hedges_g_from_summary(103, 5.5, 50, 100, 4.5, 50).value == pytest.approx(0.5924, abs=1e-4)


@pytest.mark.parametrize(("n_a", "n_b", "d"), [(8, 8, 0.5), (3, 20, 2.0), (50, 50, 0.0), (5, 5, 5.0)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_interval_of_g_agrees_with_statsmodels(n_a: int, n_b: int, d: float, confidence: float) -> None:
    root = math.sqrt(n_a * n_b / (n_a + n_b))
    expected = _noncentrality_t(d * root, n_a + n_b - 2, alpha=1 - confidence).confint
    result = hedges_g_from_summary(d, 1, n_a, 0, 1, n_b, confidence)
    assert result[1:] == pytest.approx(np.array(expected) / root, rel=1e-5, abs=1e-7)


def upper_tail(t: float, df: int, noncentrality: float) -> float:
    """Return P(noncentral t > t) as the mean of the normal tail over the chi distribution."""
    scale = math.sqrt(df)

    def at(u: float) -> float:
        return float(stats.chi.pdf(u * scale, df) * scale * stats.norm.sf(t * u - noncentrality))

    return integrate.quad(at, 0, 8, points=[noncentrality / t, 1.0], limit=500, epsabs=1e-12)[0]


@pytest.mark.parametrize(("n", "d"), [(4, 1.0), (8, 5.0), (20, 0.3), (5, 200.0)])
def test_interval_of_g_by_integration(n: int, d: float) -> None:
    root = math.sqrt(n / 2)
    result = hedges_g_from_summary(d, 1, n, 0, 1, n)
    assert upper_tail(d * root, 2 * n - 2, result.low * root) == pytest.approx(0.025, abs=1e-6)
    assert upper_tail(d * root, 2 * n - 2, result.high * root) == pytest.approx(0.975, abs=1e-6)


def test_g_is_unbiased_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(1.5, 1, (500, 4)), rng.normal(0, 1, (500, 4))
    effects = np.array([hedges_g(x, y, 0.8) for x, y in zip(a, b, strict=True)])
    assert effects[:, 0].mean() == pytest.approx(1.5, abs=4 * effects[:, 0].std() / math.sqrt(500))
    assert np.mean((effects[:, 1] < 1.5) & (effects[:, 2] > 1.5)) == pytest.approx(0.8, abs=0.05)


@SMALL
@given(VALUES, VALUES, st.floats(0.1, 100), st.floats(-10, 10))
def test_g_swaps_and_knows_no_unit(a: list[float], b: list[float], scale: float, shift: float) -> None:
    result, swapped = hedges_g(a, b), hedges_g(b, a)
    assert swapped == pytest.approx((-result.value, -result.high, -result.low), nan_ok=True)
    if min(np.ptp(a), np.ptp(b)) > 1e-3:
        moved = hedges_g(scale * np.array(a) + shift, scale * np.array(b) + shift)
        assert moved == pytest.approx(result, rel=1e-6, abs=1e-6)


def test_interval_of_g_excludes_zero_where_students_test_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        a, b = rng.normal(1, 1, 8), rng.normal(0, 1, 8)
        result = hedges_g(a, b)
        assert (result.low > 0 or result.high < 0) == (stats.ttest_ind(a, b).pvalue < 0.05)


def test_g_beyond_what_scipy_computes_goes_on_in_proportion() -> None:
    large, larger = (hedges_g_from_summary(1, std, 8, 0, std, 8) for std in (1e-6, 1e-12))
    assert np.array(larger) == pytest.approx(1e6 * np.array(large), rel=1e-6)
    near, far = (hedges_g_from_summary(1, std, 8, 0, std, 8) for std in (2.01e-4, 1.99e-4))
    assert far.low / near.low == pytest.approx(2.01 / 1.99, rel=1e-5)


def test_g_where_undefined() -> None:
    assert hedges_g([1.0] * 3, [0.9] * 3) == (math.inf,) * 3
    assert hedges_g([0.9] * 3, [1.0] * 3) == (-math.inf,) * 3
    assert all(map(math.isnan, hedges_g([1.0] * 3, [1.0] * 5)))
    assert all(map(math.isnan, hedges_g([0.9], [0.8, 0.7])))
    assert all(map(math.isnan, hedges_g([0.9, math.nan], [0.8, 0.7])))
    assert math.isfinite(hedges_g([1.0] * 3, [0.9, 0.8]).value)
    with pytest.raises(ValueError, match="negative"):
        hedges_g_from_summary(0.9, -0.1, 8, 0.8, 0.1, 8)
    with pytest.raises(ValueError, match="confidence"):
        hedges_g([0.9, 0.8], [0.8, 0.7], confidence=0.0)


# ---- probability of superiority


def kernel(a: list[float], b: list[float]) -> np.ndarray:
    return np.array([[(x > y) + 0.5 * (x == y) for y in b] for x in a])


@SMALL
@given(INTEGERS, INTEGERS)
def test_superiority_by_brute_force(a: list[int], b: list[int]) -> None:
    wins, result = kernel(a, b), probability_of_superiority(a, b)
    assert result.value == pytest.approx(wins.mean())
    assert result.value == pytest.approx(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))
    error = math.sqrt(wins.mean(1).var(ddof=1) / len(a) + wins.mean(0).var(ddof=1) / len(b))
    if error > 0 and 0 < result.value < 1:
        half = 1.959964 * error / (result.value * (1 - result.value))
        logits = [math.log(p / (1 - p)) for p in (result.low, result.value, result.high)]
        assert logits == pytest.approx([logits[1] - half, logits[1], logits[1] + half], abs=1e-5)


@pytest.mark.parametrize("sizes", [(5, 5), (8, 30)])
def test_variance_of_superiority_agrees_with_statsmodels(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    a, b = rng.integers(0, 8, sizes[0]), rng.integers(0, 6, sizes[1])
    expected = rank_compare_2indep(a, b)
    result = probability_of_superiority(a, b, confidence=2 * stats.norm.cdf(1) - 1)
    slope = expected.prob1 * (1 - expected.prob1)
    assert result.value == pytest.approx(expected.prob1)
    assert math.log(result.high / (1 - result.high)) - math.log(result.value / (1 - result.value)) == pytest.approx(
        math.sqrt(expected.var_prob) / slope
    )


@pytest.mark.parametrize(("n_a", "n_b", "z"), [(5, 5, 1.96), (3, 12, 1.96), (40, 40, 1.645)])
def test_perfect_superiority_has_newcombes_interval(n_a: int, n_b: int, z: float) -> None:
    """The bound is z standard errors away from 1, the error being Hanley and McNeil's at the bound with equal sizes."""
    result = probability_of_superiority(np.arange(n_a) + 100, np.arange(n_b), confidence=2 * stats.norm.cdf(z) - 1)
    p, middle = result.low, (n_a + n_b) / 2
    variance = p * (1 - p) + (middle - 1) * (p / (2 - p) - p**2 + 2 * p**2 / (1 + p) - p**2)
    assert (result.value, result.high) == (1.0, 1.0)
    assert (1 - p) / math.sqrt(variance / (n_a * n_b)) == pytest.approx(z)


@SMALL
@given(INTEGERS, INTEGERS)
def test_superiority_swaps_and_knows_only_order(a: list[int], b: list[int]) -> None:
    result, swapped = probability_of_superiority(a, b), probability_of_superiority(b, a)
    assert 0 <= result.low <= result.value <= result.high <= 1
    assert swapped == pytest.approx((1 - result.value, 1 - result.high, 1 - result.low))
    assert probability_of_superiority(np.exp(a), np.exp(b)) == result


def test_superiority_covers() -> None:
    rng = np.random.default_rng(5)
    shift, truth = stats.norm.ppf(0.9) * math.sqrt(1 + 4), 0.9
    found = np.array([probability_of_superiority(rng.normal(shift, 1, 8), rng.normal(0, 2, 8)) for _ in range(600)])
    assert np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])) > 0.94


def test_superiority_where_undefined() -> None:
    assert probability_of_superiority([0.9], [0.8, 0.9])[0] == 0.75
    assert all(map(math.isnan, probability_of_superiority([0.9], [0.8, 0.9])[1:]))
    assert all(map(math.isnan, probability_of_superiority([], [0.8, 0.9])))
    assert all(map(math.isnan, probability_of_superiority([0.9, math.nan], [0.8, 0.9])))
    equal = probability_of_superiority([1.0] * 4, [1.0] * 4)
    assert (equal.value, equal.low + equal.high) == (0.5, pytest.approx(1.0))
    assert 0 < equal.low < 0.3


# ---- rank-biserial correlation


def correlation(differences: np.ndarray) -> float:
    differences = differences[differences != 0]
    ranks = stats.rankdata(np.abs(differences))
    return float((np.sign(differences) * ranks).sum() / ranks.sum()) if differences.size else 0.0


def test_rank_biserial_of_a_published_example() -> None:
    """The example of Wikipedia's article on the signed-rank test: nine pairs that differ, W = 9 of 45, r = 0.20."""
    first = [110, 122, 125, 120, 140, 124, 123, 137, 135, 145]
    second = [125, 115, 130, 140, 140, 115, 140, 125, 140, 135]
    assert rank_biserial(second, first).value == pytest.approx(0.20)


@SMALL
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_rank_biserial_by_its_definition(values: list[int]) -> None:
    differences, zeros = np.array(values, dtype=float), np.zeros(len(values))
    result = rank_biserial(differences, zeros, resamples=200)
    assert result.value == pytest.approx(correlation(differences))
    assert -1 <= result.low <= result.high <= 1
    tested = wilcoxon(differences, zeros)
    if tested.n:
        assert abs(result.value) == pytest.approx(1 - 2 * tested.statistic / (tested.n * (tested.n + 1) / 2))


def test_rank_biserial_is_one_half_of_all_pairwise_sums() -> None:
    """Without ties, W counts the positive among all sums of two differences, each with itself included."""
    differences = np.random.default_rng(2).normal(0.4, 1, 12)
    sums = [x + y > 0 for x, y in itertools.combinations_with_replacement(differences, 2)]
    assert rank_biserial(differences, np.zeros(12)).value == pytest.approx(2 * np.mean(sums) - 1)


@pytest.mark.parametrize(("n", "confidence"), [(9, 0.95), (30, 0.8)])
def test_interval_of_rank_biserial_agrees_with_scipy(n: int, confidence: float) -> None:
    differences = np.random.default_rng(n).normal(0.5, 1, n)
    rng = np.random.default_rng(0)  # draws the same resamples in SciPy
    options: Any = {"method": "BCa", "n_resamples": 2000, "random_state": rng, "vectorized": False}
    expected = stats.bootstrap((differences,), correlation, confidence_level=confidence, **options)
    result = rank_biserial(differences, np.zeros(n), confidence)
    assert result[1:] == pytest.approx(tuple(expected.confidence_interval))


def test_rank_biserial_repeats_itself() -> None:
    a, b = np.random.default_rng(4).normal(size=(2, 10))
    assert rank_biserial(a, b) == rank_biserial(a, b)
    assert rank_biserial(a, b) != rank_biserial(a, b, seed=1)


def test_rank_biserial_covers() -> None:
    rng = np.random.default_rng(6)
    n, shift = 9, 0.7
    one, two = stats.norm.cdf(shift), stats.norm.cdf(shift * math.sqrt(2))
    truth = 2 * (n * one + n * (n - 1) / 2 * two) / (n * (n + 1) / 2) - 1
    found = np.array([rank_biserial(rng.normal(shift, 1, n), np.zeros(n), resamples=400) for _ in range(400)])
    assert np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])) > 0.93


def test_rank_biserial_of_one_sign() -> None:
    """Five differences of one sign: their share is at least 0.025^(1/5) = 0.478, the correlation 2 · 0.478² − 1."""
    better = rank_biserial([1.0, 2.0, 3.0, 4.0, 5.0, 0.0], [0.0] * 6)
    assert better == pytest.approx((1.0, 2 * 0.4782**2 - 1, 1.0), abs=1e-4)
    assert stats.binomtest(5, 5).proportion_ci(0.95).low == pytest.approx(0.4782, abs=1e-4)
    worse = rank_biserial([0.0] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 0.0])
    assert worse == pytest.approx((-1.0, -1.0, -better.low))


def test_rank_biserial_where_undefined() -> None:
    assert rank_biserial([0.9, 0.8], [0.9, 0.8]) == (0.0, -1.0, 1.0)
    assert all(map(math.isnan, rank_biserial([0.9], [0.8])))
    assert all(map(math.isnan, rank_biserial([0.9, math.nan], [0.8, 0.7])))
    with pytest.raises(ValueError, match="equal lengths"):
        rank_biserial([0.9], [0.8, 0.7])
    with pytest.raises(ValueError, match="resample"):
        rank_biserial([0.9, 0.7], [0.8, 0.8], resamples=0)


def test_effects_point_the_way_of_the_test() -> None:
    a, b = [0.91, 0.93, 0.92, 0.95], [0.90, 0.92, 0.89, 0.91]
    assert welch(a, b).statistic > 0
    assert hedges_g(a, b).value > 0 and rank_biserial(a, b).value > 0 and probability_of_superiority(a, b).value > 0.5

"""Wilcoxon's test against brute force over all signs, SciPy and a textbook table."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats import holm, smallest_pvalue, wilcoxon


def brute_force(differences: np.ndarray) -> float:
    """Return the exact two-sided p value by trying every sign."""
    differences = differences[differences != 0]
    ranks = stats.rankdata(np.abs(differences))
    smaller = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = np.array([ranks[list(signs)].sum() for signs in itertools.product([True, False], repeat=len(ranks))])
    return float(np.mean(np.minimum(sums, ranks.sum() - sums) <= smaller))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_exact_equals_brute_force_with_zeros_and_ties(values: list[int]) -> None:
    differences = np.array(values, dtype=float)
    result = wilcoxon(differences, np.zeros(len(values)))
    assert result.method == "exact"
    assert result.n == np.count_nonzero(differences)
    if result.n:
        assert result.pvalue == pytest.approx(brute_force(differences), abs=1e-12)
    else:
        assert result.pvalue == 1.0


@pytest.mark.parametrize("n", [2, 6, 15, 50, 51, 200])
def test_agrees_with_scipy_without_ties(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.2, 1, n), rng.normal(0, 1, n)
    method: Any = "exact" if n <= 50 else "asymptotic"
    expected: Any = stats.wilcoxon(a, b, method=method)
    result = wilcoxon(a, b)
    assert result[:2] == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    assert result.method == ("exact" if n <= 50 else "normal")


@pytest.mark.parametrize("n", [14, 40, 120])
def test_agrees_with_scipy_with_zeros_and_ties(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.integers(0, 6, n).astype(float), rng.integers(0, 5, n).astype(float)
    method: Any = "asymptotic"
    expected: Any = stats.wilcoxon(a, b, zero_method="wilcox", correction=False, method=method)
    result = wilcoxon(a, b)
    assert result[:2] == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    assert (result.method, result.n) == ("normal", np.count_nonzero(a - b))


def test_textbook_example() -> None:
    """Darwin's maize, in eighths of an inch (the example of SciPy's documentation): W = 24, p = 0.0413."""
    differences = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
    result = wilcoxon(differences, np.zeros(15))
    assert result.statistic == 24
    assert result.pvalue == pytest.approx(0.0413, abs=1e-4)


def test_critical_value_of_printed_tables() -> None:
    """Six pairs all in one direction: the smallest possible two-sided p, 2 / 2**6."""
    assert wilcoxon([1, 2, 3, 4, 5, 6], [0] * 6)[:2] == (0.0, 0.03125)


def test_degenerate_samples() -> None:
    assert math.isnan(wilcoxon([0.9], [0.8]).pvalue)
    assert math.isnan(wilcoxon([], []).pvalue)
    assert math.isnan(wilcoxon([0.9, math.nan], [0.8, 0.7]).pvalue)
    assert wilcoxon([0.9, 0.8], [0.9, 0.8])[:2] == (0.0, 1.0)
    with pytest.raises(ValueError, match="equal lengths"):
        wilcoxon([0.9], [0.8, 0.7])


@pytest.mark.parametrize("n", [2, 3, 5, 6, 9, 13])
def test_smallest_pvalue_is_that_of_one_sign_ties_or_not(n: int) -> None:
    assert wilcoxon(np.arange(1.0, n + 1), np.zeros(n)).pvalue == pytest.approx(smallest_pvalue(n))
    assert wilcoxon(np.ones(n), np.zeros(n)).pvalue == pytest.approx(smallest_pvalue(n))
    assert smallest_pvalue(n) == 2 / 2**n


def test_smallest_pvalue_after_holm() -> None:
    assert smallest_pvalue(9, comparisons=6) == pytest.approx(holm([smallest_pvalue(9)] * 6)[0])
    assert smallest_pvalue(3, comparisons=6) == 1.0
    assert smallest_pvalue(0) == smallest_pvalue(1) == 1.0
    with pytest.raises(ValueError, match="no test"):
        smallest_pvalue(-1)
    with pytest.raises(ValueError, match="no test"):
        smallest_pvalue(9, comparisons=0)

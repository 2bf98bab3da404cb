"""The corrected resampled t-test against SciPy's uncorrected one, by hand, and by what it is for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.stats import nadeau_bengio

PAIRS = st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=2, max_size=12)


def test_by_hand() -> None:
    """Differences 1, 2, 3, 4, 5: mean 3, s² = 2.5; five folds: t = 3 / √((1/5 + 1/4) 2.5) = 2.8284, df = 4."""
    result = nadeau_bengio([1, 2, 3, 4, 5], [0] * 5, 1 / 4)
    assert result == pytest.approx((math.sqrt(8), 0.0474, 4), abs=1e-4)


@pytest.mark.parametrize("folds", [2, 5, 10, 100])
def test_is_the_paired_test_with_another_variance(folds: int) -> None:
    rng = np.random.default_rng(folds)
    a, b = rng.normal(0.9, 0.05, folds), rng.normal(0.88, 0.01, folds)
    expected = stats.ttest_rel(a, b).statistic * math.sqrt((1 / folds) / (1 / folds + 0.25))
    result = nadeau_bengio(a, b, 0.25)
    assert result.statistic == pytest.approx(expected)
    assert result.pvalue == pytest.approx(2 * stats.t.sf(abs(expected), folds - 1))
    assert nadeau_bengio(a, b, 1e-15)[:2] == pytest.approx(stats.ttest_rel(a, b)[:2])


def test_keeps_its_level_over_folds_that_share_images() -> None:
    """Differences correlated by ρ = test / (test + train) are what the correction is derived for."""
    rng = np.random.default_rng(0)
    folds, ratio = 10, 1 / 9
    rho = ratio / (1 + ratio)
    shared, own = rng.normal(size=(4000, 1)), rng.normal(size=(4000, folds))
    differences = math.sqrt(rho) * shared + math.sqrt(1 - rho) * own
    found = np.mean([nadeau_bengio(d, np.zeros(folds), ratio).pvalue < 0.05 for d in differences])
    assert found == pytest.approx(0.05, abs=0.012)
    assert np.mean(stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05) > 0.1


@given(PAIRS, st.floats(0.01, 1))
def test_sides_swap_and_more_overlap_is_more_careful(pairs: list[tuple[float, float]], ratio: float) -> None:
    a, b = np.array(pairs).T
    result, swapped = nadeau_bengio(a, b, ratio), nadeau_bengio(b, a, ratio)
    assert swapped == (-result.statistic, result.pvalue, result.df)
    assert nadeau_bengio(a, b, 2 * ratio).pvalue >= result.pvalue


def test_without_variance() -> None:
    assert nadeau_bengio([0.9, 0.8], [0.9, 0.8], 0.25) == (0.0, 1.0, 1.0)
    assert nadeau_bengio([2.0, 3.0], [1.0, 2.0], 0.25) == (math.inf, 0.0, 1.0)
    assert nadeau_bengio([1.0, 2.0], [2.0, 3.0], 0.25) == (-math.inf, 0.0, 1.0)


def test_no_test() -> None:
    assert all(map(math.isnan, nadeau_bengio([0.9], [0.8], 0.25)))
    assert all(map(math.isnan, nadeau_bengio([], [], 0.25)))
    assert all(map(math.isnan, nadeau_bengio([0.9, math.nan], [0.8, 0.7], 0.25)))


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        nadeau_bengio([0.9], [0.8, 0.7], 0.25)
    for ratio in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="ratio"):
            nadeau_bengio([0.9, 0.8], [0.8, 0.7], ratio)

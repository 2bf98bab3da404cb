"""Intervals against SciPy, statsmodels and textbook examples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from harness.stats import mean_difference, mean_difference_from_summary, prediction_interval, welch

VALUES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)


@pytest.mark.parametrize("sizes", [(2, 2), (8, 8), (3, 20), (50, 5)])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_difference_agrees_with_scipy_and_statsmodels(sizes: tuple[int, int], confidence: float) -> None:
    rng = np.random.default_rng(sum(sizes))
    a, b = rng.normal(0.9, 0.05, sizes[0]), rng.normal(0.88, 0.01, sizes[1])
    result = mean_difference(a, b, confidence)
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert result[1:] == pytest.approx((*expected.confidence_interval(confidence), expected.df), rel=1e-9)
    by_statsmodels = CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(1 - confidence, usevar="unequal")
    assert result[1:3] == pytest.approx(by_statsmodels, rel=1e-9)
    assert result.difference == pytest.approx(a.mean() - b.mean())


def test_difference_of_a_published_example() -> None:
    """Student's sleep data, R's `t.test(extra ~ group, sleep)`: -3.3654832 to 0.2054832, df = 17.776."""
    a = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    b = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert mean_difference(a, b) == pytest.approx((-1.58, -3.3654832, 0.2054832, 17.776), abs=5e-4)


@given(VALUES, VALUES, st.floats(0.01, 0.99))
def test_difference_excludes_zero_where_the_test_rejects(a: list[float], b: list[float], confidence: float) -> None:
    result, swapped = mean_difference(a, b, confidence), mean_difference(b, a, confidence)
    assert swapped[:3] == (-result.difference, -result.high, -result.low)
    p = welch(a, b).pvalue
    if abs(p - (1 - confidence)) > 1e-6:
        assert (result.low > 0 or result.high < 0) == (p < 1 - confidence)


@given(VALUES, st.floats(0.01, 0.98))
def test_intervals_grow_with_confidence(a: list[float], confidence: float) -> None:
    narrow, wide = (prediction_interval(a, c) for c in (confidence, confidence + 0.01))
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    shorter, longer = (mean_difference(a, [0.5, 0.6], c) for c in (confidence, confidence + 0.01))
    assert longer.low < shorter.low < shorter.difference < shorter.high < longer.high


def test_difference_from_summary() -> None:
    expected = stats.ttest_ind_from_stats(77.2, 2.3, 8, 75.9, 0.4, 5, equal_var=False)
    result = mean_difference_from_summary(77.2, 2.3, 8, 75.9, 0.4, 5)
    assert result.difference / (result.high - result.low) == pytest.approx(
        expected.statistic / (2 * stats.t.ppf(0.975, result.df))
    )


def test_difference_where_undefined() -> None:
    one = mean_difference([0.9], [0.8, 0.7])
    assert one.difference == pytest.approx(0.15)
    assert all(map(math.isnan, one[1:]))
    assert all(map(math.isnan, mean_difference([0.9, math.nan], [0.8, 0.7])))
    assert all(map(math.isnan, mean_difference([], [0.8, 0.7])))
    assert mean_difference([0.9] * 3, [0.8] * 4)[:3] == (0.9 - 0.8,) * 3
    assert math.isnan(mean_difference([0.9] * 3, [0.8] * 4).df)
    with pytest.raises(ValueError, match="confidence"):
        mean_difference([0.9, 0.8], [0.8, 0.7], confidence=95)
    with pytest.raises(ValueError, match="negative"):
        mean_difference_from_summary(0.9, -0.1, 8, 0.8, 0.1, 8)


def test_prediction_of_a_textbook_example() -> None:
    """Montgomery and Runger, Applied Statistics and Probability for Engineers, examples 8-4 and 8-8 (U-700 alloy).

    The load at failure of 22 specimens; the twenty-third is predicted between 6.16 and 21.26.
    """
    load = [19.8, 10.1, 14.9, 7.5, 15.4, 15.4, 15.4, 18.5, 7.9, 12.7, 11.9]
    load += [11.4, 11.4, 14.1, 17.6, 16.7, 15.8, 19.5, 8.8, 13.6, 11.9, 11.4]
    assert prediction_interval(load) == pytest.approx((6.16, 21.26), abs=0.02)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_prediction_agrees_with_statsmodels(n: int) -> None:
    """A regression on nothing but a constant has the same interval for a new observation."""
    sample = np.random.default_rng(n).normal(0.9, 0.05, n)
    frame = OLS(sample, np.ones(n)).fit().get_prediction([[1.0]]).summary_frame(alpha=0.1)
    assert prediction_interval(sample, 0.9) == pytest.approx(
        (frame["obs_ci_lower"].iloc[0], frame["obs_ci_upper"].iloc[0])
    )


def test_prediction_of_a_mean_tends_to_the_interval_of_the_mean() -> None:
    sample = np.random.default_rng(1).normal(0.9, 0.05, 8)
    expected = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    assert prediction_interval(sample, of=10**9) == pytest.approx(tuple(expected), rel=1e-6)


@pytest.mark.parametrize("of", [1, 4])
def test_prediction_covers_its_share(of: int) -> None:
    rng = np.random.default_rng(of)
    old, new = rng.normal(size=(4000, 5)), rng.normal(size=(4000, of)).mean(axis=1)
    intervals = np.array([prediction_interval(sample, 0.8, of) for sample in old])
    assert np.mean((intervals[:, 0] < new) & (new < intervals[:, 1])) == pytest.approx(0.8, abs=0.02)


def test_prediction_where_undefined() -> None:
    assert all(map(math.isnan, prediction_interval([0.9])))
    assert all(map(math.isnan, prediction_interval([])))
    assert all(map(math.isnan, prediction_interval([0.9, math.inf])))
    assert prediction_interval([0.1] * 3) == (0.1, 0.1)
    with pytest.raises(ValueError, match="at least one"):
        prediction_interval([0.9, 0.8], of=0)
    with pytest.raises(ValueError, match="confidence"):
        prediction_interval([0.9, 0.8], confidence=1.0)

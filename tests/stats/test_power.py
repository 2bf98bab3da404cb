"""Sample sizes against statsmodels, Cohen's tables, integration and simulated studies."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from harness.stats import detectable_points, seeds_needed, seeds_needed_for_points

FEW = settings(deadline=None, max_examples=12)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 394), (0.5, 64), (0.8, 26)])
def test_published_sizes(effect: float, n: int) -> None:
    """Small, medium and large effects at 5 % and power 0.8, as G*Power prints them (Cohen 1992: 393, 64, 26)."""
    assert seeds_needed(effect) == n


@pytest.mark.parametrize("effect", [0.15, 1.0, -1.7, 3.0])
@pytest.mark.parametrize(("power", "alpha"), [(0.8, 0.05), (0.95, 0.01), (0.3, 0.2)])
def test_agrees_with_statsmodels(effect: float, power: float, alpha: float) -> None:
    n = seeds_needed(effect, power, alpha)
    assert TTestIndPower().power(abs(effect), n, alpha) >= power
    assert n == 2 or TTestIndPower().power(abs(effect), n - 1, alpha) < power


def welch_power(points: float, std_a: float, std_b: float, n: int, alpha: float, studies: int = 60_000) -> float:
    """Return the share of simulated studies in which Welch's test finds a difference."""
    rng = np.random.default_rng(n)
    a, b = rng.normal(points, std_a, (studies, n)), rng.normal(0, std_b, (studies, n))
    return float(np.mean(stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue < alpha))


@pytest.mark.parametrize(("std_a", "std_b"), [(1.0, 1.0), (0.5, 2.0), (3.0, 0.0)])
@pytest.mark.parametrize(("n", "power"), [(2, 0.5), (3, 0.8), (5, 0.9), (20, 0.8)])
def test_simulated_studies_find_what_is_detectable(std_a: float, std_b: float, n: int, power: float) -> None:
    points = detectable_points(std_a, std_b, n, power)
    assert welch_power(points, std_a, std_b, n, 0.05) == pytest.approx(power, abs=0.01)


def test_simulated_studies_of_the_size_needed() -> None:
    n = int(seeds_needed_for_points(2.0, 1.0, 1.5))
    assert welch_power(2.0, 1.0, 1.5, n, 0.05) > 0.79
    assert welch_power(2.0, 1.0, 1.5, n - 1, 0.05) < 0.8


@pytest.mark.parametrize("effect", [0.2, 0.5, 0.8, 1.5])
def test_welch_takes_hardly_more_than_student_of_equal_deviations(effect: float) -> None:
    assert seeds_needed(effect) <= seeds_needed_for_points(3 * effect, 3, 3) <= seeds_needed(effect) + 1


@FEW
@given(st.floats(0.3, 20), st.floats(0.05, 2), st.floats(0.05, 2), st.floats(0.2, 0.95), st.floats(0.01, 0.15))
def test_needed_and_detectable_agree(points: float, std_a: float, std_b: float, power: float, alpha: float) -> None:
    n = int(seeds_needed_for_points(points, std_a, std_b, power, alpha))
    assert detectable_points(std_a, std_b, n, power, alpha) <= points * (1 + 1e-6)
    if n > 2:
        assert detectable_points(std_a, std_b, n - 1, power, alpha) > points * (1 - 1e-6)


@FEW
@given(st.floats(0.05, 2), st.floats(0.05, 2), st.integers(2, 30), st.floats(0.01, 100))
def test_properties(std_a: float, std_b: float, n: int, scale: float) -> None:
    points = detectable_points(std_a, std_b, n)
    assert detectable_points(std_b, std_a, n) == pytest.approx(points)
    assert detectable_points(scale * std_a, scale * std_b, n) == pytest.approx(scale * points)
    assert detectable_points(std_a, std_b, n + 1) < points
    assert detectable_points(std_a, std_b, n, power=0.9) > points > detectable_points(std_a, std_b, n, alpha=0.1)


def test_without_variance() -> None:
    assert seeds_needed(math.inf) == seeds_needed(-math.inf) == 2
    assert seeds_needed_for_points(0.1, 0, 0) == 2
    assert detectable_points(0, 0, 5) == 0
    assert seeds_needed_for_points(1000, 1, 0) == 2


def test_one_seed_has_no_deviation() -> None:
    assert math.isnan(seeds_needed_for_points(1.0, math.nan, 0.5))
    assert math.isnan(detectable_points(math.nan, 0.5, 3))
    assert math.isnan(detectable_points(0.5, 0.5, 1))


def test_tiny_effects_take_many() -> None:
    z = stats.norm.isf(0.025) + stats.norm.isf(0.2)
    assert seeds_needed(0.001) == pytest.approx(2 * (z / 0.001) ** 2, rel=1e-5)
    assert seeds_needed_for_points(0.01, 1, 1) == pytest.approx(2 * (z / 0.01) ** 2, rel=1e-3)


@pytest.mark.parametrize("difference", [0.0, math.nan])
def test_refuses_a_difference_that_does_not_matter(difference: float) -> None:
    with pytest.raises(ValueError, match="matters"):
        seeds_needed(difference)
    with pytest.raises(ValueError, match="matters"):
        seeds_needed_for_points(difference, 1, 1)


def test_refuses_nonsense() -> None:
    for options in ({"power": 1.0}, {"alpha": 0.0}, {"power": 80}, {"power": 0.05, "alpha": 0.05}):
        with pytest.raises(ValueError, match=r"power|alpha"):
            seeds_needed(0.5, **options)
        with pytest.raises(ValueError, match=r"power|alpha"):
            detectable_points(1, 1, 5, **options)
    with pytest.raises(ValueError, match="negative"):
        seeds_needed_for_points(1, -1, 1)
    with pytest.raises(ValueError, match="negative"):
        detectable_points(1, -1, 5)

"""Equivalence tests against statsmodels, their interval and the cases without variance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_ind

from harness.stats import tost, tost_from_summary

VALUES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)
MARGINS = st.floats(0.001, 2)


@pytest.mark.parametrize("sizes", [(2, 2), (8, 8), (3, 20), (50, 5)])
@pytest.mark.parametrize("margin", [0.01, 0.05, 0.2])
def test_agrees_with_statsmodels(sizes: tuple[int, int], margin: float) -> None:
    rng = np.random.default_rng(sum(sizes))
    a, b = rng.normal(0.9, 0.05, sizes[0]), rng.normal(0.88, 0.01, sizes[1])
    result = tost(a, b, margin)
    p, (_, lower, df), (_, upper, _) = ttost_ind(a, b, -margin, margin, usevar="unequal")
    assert (result.pvalue, result.lower_pvalue, result.upper_pvalue, result.df) == pytest.approx(
        (p, lower, upper, df), rel=1e-9
    )


def test_by_hand_from_summary() -> None:
    """Difference 0.3, standard error √(0.4² / 8 + 0.4² / 8) = 0.2, df = 14: t = (1 − 0.3) / 0.2 = 3.5 on the near side.

    Of Student's t with 14 degrees of freedom 1.761 is the upper 5 % point of printed tables.
    """
    result = tost_from_summary(77.3, 0.4, 8, 77.0, 0.4, 8, margin=1.0)
    assert (result.statistic, result.df) == pytest.approx((3.5, 14))
    assert (result.low, result.high) == pytest.approx((0.3 - 1.761 * 0.2, 0.3 + 1.761 * 0.2), abs=1e-4)
    assert result.pvalue == result.upper_pvalue < 0.05


@given(VALUES, VALUES, MARGINS, st.floats(0.001, 0.49))
def test_equivalent_exactly_where_the_interval_is_within(
    a: list[float], b: list[float], margin: float, alpha: float
) -> None:
    result = tost(a, b, margin, alpha)
    assert result.pvalue == max(result.lower_pvalue, result.upper_pvalue)
    if abs(result.pvalue - alpha) > 1e-6:
        assert (result.pvalue < alpha) == (-margin < result.low and result.high < margin)


@given(VALUES, VALUES, MARGINS)
def test_sides_swap_and_a_wider_margin_is_easier(a: list[float], b: list[float], margin: float) -> None:
    result, swapped, wider = tost(a, b, margin), tost(b, a, margin), tost(a, b, 2 * margin)
    assert (swapped.pvalue, swapped.low, swapped.high) == (result.pvalue, -result.high, -result.low)
    assert (swapped.lower_pvalue, swapped.upper_pvalue) == (result.upper_pvalue, result.lower_pvalue)
    assert wider.pvalue <= result.pvalue


def test_without_variance() -> None:
    inside, outside = tost([0.9] * 3, [0.85] * 3, 0.1), tost([0.9] * 3, [0.7] * 3, 0.1)
    assert inside[:3] == (0.0, 0.0, 0.0)
    assert outside[:3] == (1.0, 0.0, 1.0)
    assert (inside.low, inside.high) == (0.9 - 0.85, 0.9 - 0.85)
    assert tost([0.1] * 3, [0.1] * 7, 0.01).pvalue == 0.0
    assert math.isnan(inside.df)


def test_on_the_margin_is_not_equivalent() -> None:
    assert 0.9 - 0.8 < 0.1  # only in binary
    assert tost([0.9] * 3, [0.8] * 3, 0.1).pvalue == 1.0
    assert tost([0.8] * 3, [0.9] * 3, 0.1).pvalue == 1.0
    assert tost([1.0, 2.0, 3.0], [0.0, 1.0, 2.0], 1.0).pvalue == pytest.approx(0.5)


def test_no_test() -> None:
    assert all(map(math.isnan, tost([0.9], [0.8, 0.7], 0.1)))
    assert all(map(math.isnan, tost([0.9, math.nan], [0.8, 0.7], 0.1)))
    assert all(map(math.isnan, tost([], [], 0.1)))


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_refuses_a_margin_that_is_none(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        tost([0.9, 0.8], [0.9, 0.8], margin)


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="alpha"):
        tost([0.9, 0.8], [0.9, 0.8], 0.1, alpha=0.5)
    with pytest.raises(ValueError, match="negative"):
        tost_from_summary(0.9, -0.1, 8, 0.8, 0.1, 8, margin=0.1)

"""Stability over the epochs: computed by hand, by loops, and by its properties."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import stability

CURVES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40)


def test_by_hand() -> None:
    """Converged at 0.90 (epoch 2; the final value is 0.91), falls from 0.95 to 0.54, close for good from epoch 5."""
    found = stability([0.5, 0.8, 0.905, 0.95, 0.54, 0.91, 0.905, 0.91])
    assert found.worst_drop == pytest.approx(0.41)
    assert found.settled_epoch == 5
    assert found.std_last == pytest.approx(statistics.stdev([0.5, 0.8, 0.905, 0.95, 0.54, 0.91, 0.905, 0.91]))


def test_a_fall_before_convergence_does_not_count() -> None:
    assert stability([0.7, 0.4, 0.8, 0.9, 0.9]).worst_drop == 0.0
    assert stability([0.7, 0.4, 0.8, 0.9, 0.9]).settled_epoch == 3


def test_a_collapse_at_the_end_counts() -> None:
    found = stability([0.6, 0.9, 0.95, 0.54])
    assert found.worst_drop == pytest.approx(0.41)
    assert found.settled_epoch == 3


def test_deviation_is_of_the_last_ten_epochs() -> None:
    tail = [0.9, 0.91, 0.92, 0.9, 0.91, 0.92, 0.9, 0.91, 0.92, 0.9]
    assert stability([0.1, 0.2, *tail]).std_last == pytest.approx(statistics.stdev(tail))


def test_one_percent_is_close() -> None:
    assert stability([0.99, 1.01, 1.0]).settled_epoch == 0
    assert stability([0.9899, 1.01, 1.0]).settled_epoch == 1


def test_undefined_cases() -> None:
    one = stability([0.9])
    assert (one.worst_drop, one.settled_epoch) == (0.0, 0.0) and math.isnan(one.std_last)
    assert all(map(math.isnan, stability([0.9, math.nan, 0.8])))
    with pytest.raises(ValueError, match="at least one epoch"):
        stability([])
    with pytest.raises(ValueError, match="one dimension"):
        stability([[0.9, 0.8]])


@given(CURVES)
def test_equals_its_definition_epoch_by_epoch(curve: list[float]) -> None:
    final, found = curve[-1], stability(curve)
    close = [abs(value - final) <= 0.01 * final + 1e-9 for value in curve]
    first = close.index(True)
    assert found.worst_drop == max(max(curve[: i + 1]) - curve[i] for i in range(first, len(curve)))
    assert found.settled_epoch == next(i for i in range(len(curve)) if all(close[i:]))


@given(CURVES, st.floats(0.1, 100.0))
def test_unit_of_the_curve_does_not_matter(curve: list[float], scale: float) -> None:
    one, other = stability(curve), stability(scale * np.array(curve))
    assert other.worst_drop == pytest.approx(scale * one.worst_drop, abs=1e-9)
    assert other.std_last == pytest.approx(scale * one.std_last, abs=1e-9, nan_ok=True)
    assert other.settled_epoch == one.settled_epoch


@given(CURVES)
def test_rising_curves_never_fall(curve: list[float]) -> None:
    assert stability(sorted(curve)).worst_drop == 0.0
    assert stability([curve[0]] * len(curve))[::2] == (0.0, 0.0)

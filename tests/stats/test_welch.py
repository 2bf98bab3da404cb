"""Welch's test against SciPy's two implementations and the cases that SciPy leaves undefined."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.stats import welch, welch_from_summary

VALUES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)


@pytest.mark.parametrize("sizes", [(2, 2), (8, 8), (3, 20), (50, 5)])
def test_agrees_with_scipy(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    a, b = rng.normal(0.9, 0.05, sizes[0]), rng.normal(0.88, 0.01, sizes[1])
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert tuple(welch(a, b)) == pytest.approx((expected.statistic, expected.pvalue, expected.df), rel=1e-10)


def test_summary_agrees_with_scipy() -> None:
    expected = stats.ttest_ind_from_stats(77.2, 2.3, 8, 75.9, 0.4, 5, equal_var=False)
    result = welch_from_summary(77.2, 2.3, 8, 75.9, 0.4, 5)
    assert result[:2] == pytest.approx((expected.statistic, expected.pvalue), rel=1e-12)


def test_published_example() -> None:
    """The second example of Wikipedia's article on Welch's test: t = -1.57, df = 9.9, p = 0.149."""
    a = [17.2, 20.9, 22.6, 18.1, 21.7, 21.4, 23.5, 24.2, 14.7, 21.8]
    b = [21.5, 22.8, 21.0, 23.0, 21.6, 23.6, 22.5, 20.7, 23.4, 21.8]
    b += [20.7, 21.7, 21.5, 22.5, 23.6, 21.5, 22.5, 23.5, 21.5, 21.8]
    assert welch(a, b).statistic == pytest.approx(-1.57, abs=0.01)
    assert welch(a, b).df == pytest.approx(9.9, abs=0.05)
    assert welch(a, b).pvalue == pytest.approx(0.149, abs=0.002)


@given(VALUES, VALUES)
def test_summary_and_samples_agree_and_sides_swap(a: list[float], b: list[float]) -> None:
    result, swapped = welch(a, b), welch(b, a)
    assert 0 <= result.pvalue <= 1
    assert swapped.pvalue == result.pvalue
    assert swapped.statistic == -result.statistic


def test_one_value_is_no_test() -> None:
    assert all(map(math.isnan, welch([0.9], [0.8, 0.7, 0.6])))
    assert all(map(math.isnan, welch([0.8, 0.7], [])))
    assert math.isnan(welch_from_summary(0.9, 0.0, 1, 0.8, 0.1, 8).pvalue)


def test_not_finite_is_no_test() -> None:
    assert math.isnan(welch([0.9, math.nan], [0.8, 0.7]).pvalue)
    assert math.isnan(welch([0.9, math.inf], [0.8, 0.7]).pvalue)


def test_no_variance() -> None:
    assert welch([0.1] * 3, [0.1] * 7)[:2] == (
        0.0,
        1.0,
    )  # 0.1 three or seven times sums to different rounding
    assert welch([1.0] * 3, [0.9] * 3)[:2] == (math.inf, 0.0)
    assert welch([0.9] * 3, [1.0] * 3)[:2] == (-math.inf, 0.0)
    one_sided = welch([1.0] * 4, [0.8, 0.9, 1.0])
    assert one_sided.df == pytest.approx(2)
    assert 0 < one_sided.pvalue < 1


def test_tiny_variances_do_not_underflow() -> None:
    scaled = welch(np.array([1.0, 2.0, 4.0]) * 1e-100, np.array([1.0, 3.0, 5.0]) * 1e-100)
    assert tuple(scaled) == pytest.approx(tuple(welch([1.0, 2.0, 4.0], [1.0, 3.0, 5.0])), rel=1e-9)


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="negative"):
        welch_from_summary(0.9, -0.1, 8, 0.8, 0.1, 8)
    with pytest.raises(ValueError, match="one dimension"):
        welch([[0.9, 0.8]], [0.7, 0.6])


def test_tensors_are_welcome() -> None:
    class Tensor:
        """What a torch tensor shows of itself here."""

        def detach(self) -> "Tensor":
            return self

        cpu = detach

        def numpy(self) -> np.ndarray:
            return np.array([0.9, 0.8, 0.85])

    assert welch(Tensor(), [0.5, 0.6]) == welch([0.9, 0.8, 0.85], [0.5, 0.6])


def test_import_leaves_torch_alone() -> None:
    code = "import sys, harness.stats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

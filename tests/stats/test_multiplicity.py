"""Corrections for many tests: by hand, a published example, statsmodels and SciPy, and by their properties."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.stats import benjamini_hochberg, holm

PVALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
BOTH = pytest.mark.parametrize("correct", [holm, benjamini_hochberg])


def test_example_by_hand() -> None:
    """Four tests: 0.005·4, 0.01·3, 0.03·2, then 0.04·1 lifted to its predecessor's 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_hochberg_by_hand() -> None:
    """0.04·4/4, then 0.03·4/3 = 0.04, 0.01·4/2, 0.005·4/1 = 0.02."""
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_published_example() -> None:
    """Benjamini and Hochberg 1995, section 3.2: of 15 tests their procedure rejects four and Bonferroni's three."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert np.count_nonzero(benjamini_hochberg(p) <= 0.05) == 4
    assert np.count_nonzero(holm(p) <= 0.05) == 3


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_agree_with_statsmodels(n: int) -> None:
    p = np.round(np.random.default_rng(n).uniform(0, 1, n) ** 3, 2)  # with ties and zeros
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


@given(PVALUES)
def test_benjamini_hochberg_agrees_with_scipy(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))


@BOTH
def test_clipped_at_one_and_few(correct: Callable) -> None:
    assert correct([0.9, 1.0]) == pytest.approx([1.0, 1.0])
    assert correct([0.2]) == pytest.approx([0.2])
    assert correct([]).size == 0


def test_ties() -> None:
    assert holm([0.5, 0.9, 0.5]) == pytest.approx([1.0, 1.0, 1.0])
    assert holm([0.01, 0.01]) == pytest.approx([0.02, 0.02])
    assert benjamini_hochberg([0.01, 0.01]) == pytest.approx([0.01, 0.01])


@BOTH
def test_nan_is_a_comparison_not_made(correct: Callable) -> None:
    corrected = correct([0.01, math.nan, 0.04])
    assert corrected[[0, 2]] == pytest.approx(correct([0.01, 0.04]))
    assert math.isnan(corrected[1])
    assert np.isnan(correct([math.nan])).all()


@BOTH
def test_refuses_what_is_no_probability(correct: Callable) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        correct([0.5, 1.5])


@BOTH
@given(p=PVALUES, random=st.randoms())
def test_properties(correct: Callable, p: list[float], random: object) -> None:
    raw, corrected = np.array(p), correct(p)
    assert np.all(corrected >= raw * (1 - 1e-12))
    assert np.all(corrected <= 1)
    order = np.argsort(raw, kind="stable")
    assert np.all(np.diff(corrected[order]) >= 0)
    permutation = list(range(len(p)))
    random.shuffle(permutation)  # type: ignore[attr-defined]
    assert np.allclose(correct(raw[permutation]), corrected[permutation])
    assert np.all(benjamini_hochberg(p) <= holm(p) * (1 + 1e-12))

"""DeLong's test against its published data, brute force over all pairs of images, and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from harness.stats import delong

# DeLong et al. 1988: 43 patients with ovarian cancer; albumin, total protein, K-G score, whether surgery helped.
OVARIAN = np.fromstring(
    """
    3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
    3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
    2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
    3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
    3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
    3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
    """,
    sep=" ",
).reshape(-1, 4)
IMAGES = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=14)


def brute_force(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Return both areas and the standard error of their difference by the U statistic's kernel, pair by pair."""
    areas, of_bad, of_good = [], [], []
    for scores in (a, b):
        bad, good = scores[labels == 1], scores[labels == 0]
        wins = np.array([[(x > y) + 0.5 * (x == y) for y in good] for x in bad])
        areas.append(wins.mean())
        of_bad.append(wins.mean(axis=1))
        of_good.append(wins.mean(axis=0))
    covariance = np.cov(of_bad) / len(of_bad[0]) + np.cov(of_good) / len(of_good[0])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return areas[0], areas[1], math.sqrt(max(variance, 0.0))


def test_published_example() -> None:
    """SAS/STAT, PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves": total protein against K-G score.

    Areas 0.6478 and 0.7258, difference -0.0780 with standard error 0.1046, χ² = 0.5554 and p = 0.4561.
    """
    found = delong(OVARIAN[:, 3], OVARIAN[:, 1], 10 - OVARIAN[:, 2])
    assert (found.auc_a, found.auc_b, found.difference) == pytest.approx((0.6478, 0.7258, -0.0780), abs=5e-5)
    assert (found.std_error, found.statistic**2, found.pvalue) == pytest.approx((0.1046, 0.5554, 0.4561), abs=5e-5)
    assert (found.low, found.high) == pytest.approx((-0.0780 - 1.96 * 0.1046, -0.0780 + 1.96 * 0.1046), abs=2e-4)


@settings(deadline=None, max_examples=80)
@given(IMAGES)
def test_by_brute_force_with_ties(images: list[tuple[bool, int, int]]) -> None:
    labels, a, b = np.array(images, dtype=float).T
    found = delong(labels, a, b)
    if min((labels == 1).sum(), (labels == 0).sum()) < 2:
        assert math.isnan(found.pvalue)
        return
    area_a, area_b, error = brute_force(labels, a, b)
    assert (found.auc_a, found.auc_b) == pytest.approx((area_a, area_b))
    assert found.difference == pytest.approx(area_a - area_b)
    assert found.std_error == pytest.approx(error, abs=1e-7)
    if found.std_error > 0:
        assert found.statistic == pytest.approx((area_a - area_b) / error)
        assert found.pvalue == pytest.approx(2 * stats.norm.sf(abs(found.statistic)))


@settings(deadline=None, max_examples=50)
@given(IMAGES)
def test_sides_swap_and_scales_do_not_matter(images: list[tuple[bool, int, int]]) -> None:
    labels, a, b = np.array(images, dtype=float).T
    found, swapped, other = delong(labels, a, b), delong(labels, b, a), delong(labels, np.exp(a), 3 * b - 7)
    assert swapped.pvalue == pytest.approx(found.pvalue, nan_ok=True)
    assert swapped[4:] == pytest.approx((-found.difference, -found.high, -found.low, found.std_error), nan_ok=True)
    assert other == pytest.approx(found, nan_ok=True)


def test_many_images_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    a, b = rng.normal(labels, 1), rng.normal(0.8 * labels, 1).round(1)
    found = delong(labels.astype(bool), a, b)
    assert (found.auc_a, found.auc_b) == pytest.approx((roc_auc_score(labels, a), roc_auc_score(labels, b)))
    assert found.low < 0.05 < found.high


def test_keeps_its_level() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [30, 50])
    both = rng.normal(labels, 1, (800, 80))
    a, b = both + rng.normal(0, 0.7, both.shape), both + rng.normal(0, 0.7, both.shape)
    found = np.mean([delong(labels, x, y).pvalue < 0.05 for x, y in zip(a, b, strict=True)])
    assert found == pytest.approx(0.05, abs=0.02)


def test_without_variance() -> None:
    labels, perfect = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]
    assert delong(labels, perfect, perfect) == (0, 1, 1, 1, 0, 0, 0, 0)
    assert delong(labels, perfect, [1, 1, 1, 2, 2, 2])[:4] == (0, 1, 1, 1)
    ranked = [0.1, 0.5, 0.6, 0.4, 0.8, 0.9]
    same = delong(labels, ranked, np.exp(ranked))
    assert (same.statistic, same.pvalue, same.low, same.high) == (0, 1, 0, 0)
    blind = delong(labels, perfect, [0.5] * 6)
    assert (blind.auc_b, blind.difference, blind.std_error) == (0.5, 0.5, 0.0)
    assert all(map(math.isnan, (blind.statistic, blind.pvalue, blind.low, blind.high)))


def test_no_test() -> None:
    assert all(map(math.isnan, delong([1, 1], [0.1, 0.2], [0.3, 0.4])))
    assert all(map(math.isnan, delong([], [], [])))
    assert all(map(math.isnan, delong([0, 0, 1, 1], [0.1, math.nan, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])))
    one = delong([0, 0, 1], [0.1, 0.5, 0.3], [0.1, 0.2, 0.3])
    assert one[2:5] == (0.5, 1.0, -0.5)
    assert all(map(math.isnan, (one.statistic, one.pvalue, one.low, one.high, one.std_error)))


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        delong([0, 1], [0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="0 or 1"):
        delong([0, 2], [0.1, 0.2], [0.1, 0.2])
    with pytest.raises(ValueError, match="confidence"):
        delong([0, 1], [0.1, 0.2], [0.1, 0.2], confidence=95)

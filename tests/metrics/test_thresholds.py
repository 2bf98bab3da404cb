"""Thresholds and confusion counts against scikit-learn, brute force and their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from harness import metrics

tied_scores = st.lists(st.integers(-4, 6), min_size=1, max_size=40).map(lambda xs: np.array(xs, dtype=np.float32) / 4)
any_scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40).map(np.array)
shares = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.99])


@given(tied_scores | any_scores, shares)
def test_the_threshold_is_the_lowest_that_alarms_rarely_enough(normal, fpr):
    threshold = metrics.threshold_at_fpr(normal, fpr)
    assert np.mean(normal >= threshold) <= fpr + 1e-12
    for lower in normal[normal.astype(np.float64) < threshold]:
        assert np.mean(normal >= lower) > fpr + 1e-12
    below = np.nextafter(np.asarray(threshold, normal.dtype), np.asarray(-np.inf, normal.dtype))
    assert np.mean(normal >= below) > fpr + 1e-12


@given(st.integers(1, 200), st.data())
def test_a_share_of_the_images_is_met_despite_rounding(n, data):
    """k alarms of n are allowed at fpr = k / n, however the quotient is rounded."""
    k = data.draw(st.integers(0, n - 1))
    scores = np.arange(n, dtype=np.float32)
    for fpr in (k / n, 1 - (n - k) / n):
        assert int((scores >= metrics.threshold_at_fpr(scores, fpr)).sum()) == k


def test_textbook_thresholds():
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert metrics.threshold_at_fpr(scores, 0.1) == np.nextafter(0.9, 1)
    assert metrics.threshold_at_fpr(scores, 0.05) == np.nextafter(1.0, 2), "ten images cannot set an FPR of 5 %"
    assert metrics.threshold_at_fpr(scores, 0.0) == np.nextafter(1.0, 2)
    assert metrics.threshold_at_fpr([1, 2, 2, 2], 0.5) == np.nextafter(2.0, 3), "ties alarm together"
    assert metrics.threshold_at_fpr([1, 2, 2, 2], 0.75) == np.nextafter(1.0, 2)


def test_a_float32_threshold_is_still_above_its_score():
    """The next float64 above a float32 score would be rounded back to it in a comparison."""
    scores = np.float32([0.1, 0.2, 0.3])
    threshold = metrics.threshold_at_fpr(scores, 0.0)
    assert not (scores >= threshold).any()
    assert metrics.confusion([0, 0, 0], scores, threshold) == (0, 0, 0, 3)
    assert metrics.confusion([0, 0, 0], scores, np.nextafter(float(scores[2]), 1)).fp == 0


@given(st.data())
def test_counts_and_rates_equal_scikit_learn(data):
    n = data.draw(st.integers(1, 30))
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    scores = np.array(data.draw(st.lists(st.integers(-3, 5), min_size=n, max_size=n)), dtype=np.float32) / 4
    threshold = data.draw(st.sampled_from([-1.0, -0.25, 0.0, 0.1, 0.5, 1.25, 2.0]))
    found = metrics.confusion(labels, scores, threshold)
    called = (scores >= threshold).astype(int)
    tn, fp, fn, tp = confusion_matrix(labels, called, labels=[0, 1]).ravel()
    assert found == (tp, fp, fn, tn)
    same = {"nan_ok": True, "abs": 1e-12}
    assert found.precision == pytest.approx(precision_score(labels, called, zero_division=np.nan), **same)
    assert found.recall == pytest.approx(recall_score(labels, called, zero_division=np.nan), **same)
    assert found.f1 == pytest.approx(f1_score(labels, called, zero_division=np.nan), **same)
    assert found.fpr == pytest.approx(fp / (fp + tn) if fp + tn else math.nan, **same)
    assert found.fnr == pytest.approx(1 - found.recall, **same)


def test_rates_without_a_denominator_are_nan():
    quiet = metrics.confusion([0, 1], [0.1, 0.2], 9.0)
    assert math.isnan(quiet.precision) and (quiet.f1, quiet.recall, quiet.fnr, quiet.fpr) == (0.0, 0.0, 1.0, 0.0)
    good = metrics.confusion([0, 0], [0.1, 0.2], 9.0)
    assert all(map(math.isnan, (good.precision, good.recall, good.fnr, good.f1))) and good.fpr == 0.0
    defective = metrics.confusion([1, 1], [0.1, 0.2], 0.2)
    assert math.isnan(defective.fpr) and (defective.recall, defective.precision) == (0.5, 1.0)


def test_counts_at_the_f1_max_threshold_give_f1_max():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 50)
    scores = (labels + rng.normal(0, 1, 50)).astype(np.float32)
    f1, threshold = metrics.f1_max_threshold(labels, scores)
    assert metrics.confusion(labels, scores, threshold).f1 == pytest.approx(f1, abs=1e-12)


def test_torch_tensors_and_python_numbers():
    labels, scores = np.array([0, 1, 0, 1]), np.float32([0.1, 0.3, 0.3, 0.9])
    expected = metrics.confusion(labels, scores, 0.3)
    tensors = torch.tensor(labels, dtype=torch.bool), torch.tensor(scores, requires_grad=True)
    assert metrics.confusion(*tensors, 0.3) == expected
    assert all(type(count) is int for count in expected)
    assert metrics.threshold_at_fpr(tensors[1], 0.5) == metrics.threshold_at_fpr(scores, 0.5)


@pytest.mark.parametrize("scores", [[], [[1.0]], [1.0, np.nan], [np.inf]])
def test_bad_scores_are_named(scores):
    with pytest.raises(ValueError, match="score"):
        metrics.threshold_at_fpr(scores, 0.05)


@pytest.mark.parametrize("fpr", [-0.1, 1.0, 5, float("nan")])
def test_the_fpr_is_a_fraction(fpr):
    with pytest.raises(ValueError, match="fraction"):
        metrics.threshold_at_fpr([0.0, 1.0], fpr)


@pytest.mark.parametrize(
    ("labels", "scores", "threshold", "message"),
    [
        ([0, 1, 1], [1.0, 2.0], 0.5, "one length"),
        ([0, 2], [1.0, 2.0], 0.5, "labels"),
        ([0, 1], [1.0, np.nan], 0.5, "image 1"),
        ([0, 1], [1.0, 2.0], np.nan, "threshold"),
    ],
)
def test_bad_input_is_named(labels, scores, threshold, message):
    with pytest.raises(ValueError, match=message):
        metrics.confusion(labels, scores, threshold)

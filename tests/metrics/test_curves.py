"""Curves against scikit-learn and against their definitions, and what the area under a mean of them is."""

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness import metrics


@st.composite
def two_classes(draw):
    """Labels of both kinds, and scores with many ties."""
    n = draw(st.integers(2, 25))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    labels[:2] = 0, 1
    scores = np.array(draw(st.lists(st.integers(-3, 5), min_size=n, max_size=n)), dtype=np.float32)
    return labels, scores / 4


seeds = st.lists(two_classes(), min_size=1, max_size=4)


@given(two_classes())
def test_curves_equal_scikit_learn(data):
    roc, pr = metrics.roc_curve(*data), metrics.precision_recall_curve(*data)
    fpr, tpr, _ = sk.roc_curve(*data, drop_intermediate=False)
    np.testing.assert_allclose(roc, (fpr, tpr), atol=1e-12)
    precision, recall, _ = sk.precision_recall_curve(*data)
    np.testing.assert_allclose(pr, (precision[-2::-1], recall[-2::-1]), atol=1e-12)  # without its (0, 1)


@given(two_classes())
def test_curves_equal_their_definition(data):
    labels, scores = data
    points = []
    for threshold in sorted(set(scores), reverse=True):
        called = scores >= threshold
        points.append((called[labels == 0].mean(), called[labels == 1].mean(), labels[called].mean()))
    fpr, tpr, precision = np.array(points).T
    roc, pr = metrics.roc_curve(labels, scores), metrics.precision_recall_curve(labels, scores)
    np.testing.assert_allclose(roc, ([0, *fpr], [0, *tpr]), atol=1e-12)
    np.testing.assert_allclose(pr, (precision, tpr), atol=1e-12)


@given(seeds)
def test_area_under_the_mean_is_the_mean_of_the_areas(data):
    labels, scores = zip(*data, strict=True)
    aurocs = [metrics.image_auroc(*one) for one in data]
    aps = [metrics.image_ap(*one) for one in data]
    assert metrics.auroc_of_mean_roc(labels, scores) == pytest.approx(np.mean(aurocs), abs=1e-12)
    mean = metrics.mean_precision_recall(metrics.precision_recall_curve(*one) for one in data)
    assert mean.area == pytest.approx(np.mean(aps), abs=1e-12)


@given(seeds, st.integers(1, 200))
def test_a_grid_errs_by_half_a_step_at_most(data, steps):
    labels, scores = zip(*data, strict=True)
    found = metrics.auroc_of_mean_roc(labels, scores, np.linspace(0, 1, steps + 1))
    assert abs(found - metrics.auroc_of_mean_roc(labels, scores)) <= 0.5 / steps + 1e-12


def test_on_a_grid_it_is_the_mean_of_scikit_learns_example():
    """Its "ROC with cross-validation": `np.interp` at 100 FPRs, the first TPR set to 0, the last to 1."""
    rng = np.random.default_rng(0)
    labels = [rng.permutation([0] * 20 + [1] * 30) for _ in range(5)]
    scores = [rng.normal(one, 1.0).round(1) for one in labels]
    grid, tprs = np.linspace(0, 1, 100), []
    for one in zip(labels, scores, strict=True):
        fpr, tpr, _ = sk.roc_curve(*one)
        tprs.append(np.interp(grid, fpr, tpr))
        tprs[-1][0] = 0.0
    mean = metrics.mean_roc([metrics.roc_curve(*one) for one in zip(labels, scores, strict=True)], grid)
    np.testing.assert_allclose(mean.mean, np.mean(tprs, axis=0), atol=1e-12)
    np.testing.assert_allclose((mean.low, mean.high), (np.min(tprs, axis=0), np.max(tprs, axis=0)), atol=1e-12)
    assert metrics.auroc_of_mean_roc(labels, scores, grid) == pytest.approx(sk.auc(grid, np.mean(tprs, axis=0)))


def test_a_mean_by_hand():
    """One seed rises before it goes right, the other stays flat until half of the good images alarm."""
    first = metrics.roc_curve([1, 1, 0, 0], [4, 3, 2, 1])
    second = metrics.roc_curve([1, 1, 0, 0], [3, 2, 4, 1])
    mean = metrics.mean_roc([first, second])
    assert mean.x.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert mean.mean.tolist() == [0, 0.5, 0.5, 1, 1, 1]
    assert mean.low.tolist() == [0, 0, 0, 1, 1, 1]
    assert mean.high.tolist() == [0, 1, 1, 1, 1, 1]
    curves = [metrics.precision_recall_curve([1, 1, 0, 0], s) for s in ([4, 3, 2, 1], [3, 2, 4, 1])]
    stairs = metrics.mean_precision_recall(curves)
    assert stairs.x.tolist() == [0, 0.5, 0.5, 1]
    assert stairs.mean.tolist() == pytest.approx([0.75, 0.75, 5 / 6, 5 / 6])
    assert stairs.low.tolist() == pytest.approx([0.5, 0.5, 2 / 3, 2 / 3])


@given(seeds)
def test_means_lie_within_their_bands_and_rise(data):
    roc = metrics.mean_roc(metrics.roc_curve(*one) for one in data)
    pr = metrics.mean_precision_recall(metrics.precision_recall_curve(*one) for one in data)
    for mean in (roc, pr):
        assert (np.diff(mean.x) >= 0).all() and mean.x[0] == 0 and mean.x[-1] == 1
        assert ((mean.low <= mean.mean + 1e-12) & (mean.mean <= mean.high + 1e-12)).all()
    assert (np.diff(roc.mean) >= -1e-12).all() and roc.mean[0] == 0 and roc.mean[-1] == 1


@given(two_classes())
def test_one_seed_is_its_own_mean(data):
    fpr, tpr = metrics.roc_curve(*data)
    mean = metrics.mean_roc([metrics.roc_curve(*data)])
    assert {*zip(mean.x, mean.mean, strict=True)} <= {*zip(fpr, tpr, strict=True)}


def test_ties_are_one_step():
    assert metrics.roc_curve([0, 1, 1], [1, 1, 1]).fpr.tolist() == [0, 1]
    assert metrics.auroc_of_mean_roc([[0, 1]], [[7, 7]]) == 0.5


def test_tensors_are_welcome():
    roc = metrics.roc_curve(torch.tensor([True, False]), torch.tensor([0.5, 0.25]))
    assert roc.tpr.tolist() == [0, 1, 1]


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_kind_has_no_curve(labels):
    for curve in (metrics.roc_curve, metrics.precision_recall_curve):
        with pytest.raises(ValueError, match="both kinds"):
            curve(labels, [1.0, 2.0])


@pytest.mark.parametrize("grid", [[0, 0.5], [0.1, 1], [0, 0.5, 0.5, 1], [0], [[0, 1]]])
def test_a_grid_rises_from_0_to_1(grid):
    with pytest.raises(ValueError, match="rise from 0 to 1"):
        metrics.auroc_of_mean_roc([[0, 1]], [[1, 2]], grid)


def test_nothing_has_no_mean():
    for mean in (metrics.mean_roc, metrics.mean_precision_recall):
        with pytest.raises(ValueError, match="no curves"):
            mean([])
    with pytest.raises(ValueError):
        metrics.auroc_of_mean_roc([[0, 1]], [])

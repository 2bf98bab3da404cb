"""Image metrics against scikit-learn and against their definitions, threshold by threshold."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from harness import metrics


@st.composite
def two_classes(draw):
    """Labels with both classes and scores with many ties."""
    n = draw(st.integers(2, 30))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    labels[:2] = 0, 1
    scores = np.array(draw(st.lists(st.integers(-3, 5), min_size=n, max_size=n)), dtype=np.float32)
    return labels, scores / 4


def operating_points(labels, scores):
    """(threshold, tp, fp) for every distinct score and for a threshold above all of them."""
    for t in [np.inf, *np.unique(scores)]:
        called = scores >= t
        yield float(t), int((called & (labels == 1)).sum()), int((called & (labels == 0)).sum())


@given(two_classes())
def test_areas_equal_scikit_learn(data):
    labels, scores = data
    assert metrics.image_auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.image_ap(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@given(two_classes(), st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 0.996, 1.0]))
def test_operating_points_equal_their_definition(data, level):
    labels, scores = data
    positives, negatives = int(labels.sum()), int((1 - labels).sum())
    points = list(operating_points(labels, scores))
    tpr = max(tp / positives for _, tp, fp in points if (negatives - fp) / negatives >= level)
    recall = max([tp / positives for _, tp, fp in points if tp + fp and tp / (tp + fp) >= level], default=0.0)
    f1, threshold = max((2 * tp / (tp + fp + positives), t) for t, tp, fp in points)
    assert metrics.tpr_at_tnr(labels, scores, level) == tpr
    assert metrics.recall_at_precision(labels, scores, level) == recall
    assert metrics.f1_max(labels, scores) == f1
    assert metrics.f1_max_threshold(labels, scores) == (f1, threshold)


@given(two_classes())
def test_all_at_once_equals_one_by_one(data):
    labels, scores = data
    threshold = metrics.f1_max_threshold(labels, scores).threshold
    assert threshold in scores
    assert metrics.image_metrics(labels, scores) == {
        "image_auroc": metrics.image_auroc(labels, scores),
        "image_ap": metrics.image_ap(labels, scores),
        "f1_max": metrics.f1_max(labels, scores),
        "accuracy": np.mean((scores >= threshold) == labels),
        **{f"tpr_at_tnr_{p}": metrics.tpr_at_tnr(labels, scores, p / 100) for p in (99, 95, 90)},
        **{f"recall_at_precision_{p}": metrics.recall_at_precision(labels, scores, p / 100) for p in (99.6, 95, 90)},
    }


@given(two_classes(), st.randoms(use_true_random=False))
def test_order_and_monotone_transforms_do_not_matter(data, random):
    labels, scores = data
    order = np.array(random.sample(range(len(labels)), len(labels)))
    expected = metrics.image_metrics(labels, scores)
    assert metrics.image_metrics(labels[order], scores[order]) == expected
    assert metrics.image_metrics(labels, np.exp(3 * scores.astype(np.float64))) == expected


def test_tnr_of_95_percent_on_20_good_images_admits_one_false_positive():
    labels = np.repeat([0, 1], [20, 4])
    scores = np.concatenate([np.arange(20), [17.5, 18.5, 19.5, 20.5]])
    assert metrics.tpr_at_tnr(labels, scores, 0.95) == 0.75
    assert metrics.tpr_at_tnr(labels, scores, 1 - 0.05) == 0.75
    assert metrics.tpr_at_tnr(labels, scores, 0.1 + 0.85 + 1e-16) == 0.75
    assert metrics.tpr_at_tnr(labels, scores, 0.951) == 0.5
    assert metrics.tpr_at_tnr(labels, scores, 0.0) == 1.0


def test_constant_scores():
    labels = [0, 0, 0, 1]
    found = metrics.image_metrics(labels, [2.5] * 4)
    assert (found["image_auroc"], found["image_ap"], found["accuracy"]) == (0.5, 0.25, 0.25)
    assert (found["tpr_at_tnr_90"], found["recall_at_precision_90"]) == (0.0, 0.0)


def test_large_raw_scores_that_float32_barely_tells_apart():
    scores = np.nextafter(np.float32(30), np.float32([20, 40, 50]))
    assert metrics.image_auroc([0, 1, 1], scores) == 1.0
    close = np.array([1.0, 1.0 + 1e-15])
    assert metrics.image_auroc([0, 1], close) == 1.0, "float64 scores must not pass through float32"


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_is_nan(labels):
    assert np.isnan(list(metrics.image_metrics(labels, [1.0, 2.0, 3.0]).values())).all()
    assert np.isnan(metrics.f1_max_threshold(labels, [1.0, 2.0, 3.0])).all()


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 1], [1.0, 2.0], "one length"),
        ([[0, 1]], [[1.0, 2.0]], "one length"),
        ([0, 2], [1.0, 2.0], "labels"),
        ([0, 1], [1.0, np.nan], "image 1 has the score nan"),
        ([0, 1], [-np.inf, 1.0], "image 0 has the score -inf"),
    ],
)
def test_bad_input_is_named(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.image_auroc(labels, scores)


@pytest.mark.parametrize("level", [-0.1, 99, float("nan")])
def test_operating_points_are_fractions(level):
    with pytest.raises(ValueError, match="fraction"):
        metrics.tpr_at_tnr([0, 1], [0.0, 1.0], level)
    with pytest.raises(ValueError, match="fraction"):
        metrics.recall_at_precision([0, 1], [0.0, 1.0], level)


def test_torch_tensors_and_bool_labels():
    labels, scores = np.array([0, 1, 0, 1, 1]), np.float32([0.1, 0.3, 0.3, 0.9, 0.2])
    expected = metrics.image_metrics(labels, scores)
    tensors = torch.tensor(labels, dtype=torch.bool), torch.tensor(scores, requires_grad=True)
    assert metrics.image_metrics(*tensors) == expected
    assert metrics.image_metrics(labels.astype(bool).tolist(), scores.tolist()) == expected

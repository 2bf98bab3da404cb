"""Metrics of classifiers against scikit-learn, against explicit counts and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score, roc_auc_score

from harness import metrics

NAMES = ("good", "double", "interrupted", "marks")


@st.composite
def classified(draw):
    """True classes, each of them there, and probabilities with many ties."""
    n = draw(st.integers(len(NAMES), 30))
    truth = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    truth[:4] = range(4)
    votes = np.array(draw(st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=n, max_size=n)))
    votes = votes + 0.5
    return truth, votes / votes.sum(axis=1, keepdims=True)


def named(truth):
    return [NAMES[index] for index in truth]


@given(classified())
def test_the_area_equals_scikit_learns(data):
    truth, probabilities = data
    expected = roc_auc_score(truth, probabilities, multi_class="ovr", average="weighted")
    assert metrics.weighted_ovr_auroc(named(truth), probabilities, NAMES) == pytest.approx(expected, abs=1e-12)


@given(classified())
def test_recalls_equal_scikit_learns(data):
    truth, probabilities = data
    predicted = probabilities.argmax(axis=1)
    own = recall_score(truth, predicted, labels=[1, 2, 3], average=None)
    found = metrics.recalls_by_defect(named(truth), probabilities, NAMES)
    assert list(found) == ["double", "interrupted", "marks"]
    assert [row.correct for row in found.values()] == pytest.approx(own, abs=1e-12)
    for index, row in enumerate(found.values(), start=1):
        any_defect = np.mean([p > 0 for p, t in zip(predicted, truth, strict=True) if t == index])
        assert row.defect == pytest.approx(any_defect, abs=1e-12)
        assert row.aql == 1 - row.defect
        assert row.images == np.sum(truth == index)

    overall = metrics.class_metrics(named(truth), probabilities, NAMES)
    own = recall_score(truth, predicted, labels=[1, 2, 3], average="micro")
    assert overall["correct_class_recall"] == pytest.approx(own, abs=1e-12)
    assert overall["defect_recall"] == pytest.approx(recall_score(truth > 0, predicted > 0), abs=1e-12)


@given(classified(), st.randoms(use_true_random=False))
def test_all_at_once_equals_one_by_one_in_any_order(data, random):
    truth, probabilities = data
    order = np.array(random.sample(range(len(truth)), len(truth)))
    arguments = named(truth), probabilities, NAMES
    expected = {
        "class_auroc_ovr": metrics.weighted_ovr_auroc(*arguments),
        "correct_class_recall": metrics.correct_class_recall(*arguments),
        "defect_recall": metrics.defect_recall(*arguments),
        "aql": metrics.aql(*arguments),
    }
    assert metrics.class_metrics(*arguments) == expected
    assert metrics.class_metrics(named(truth[order]), probabilities[order], NAMES) == pytest.approx(expected)


def test_a_defect_of_the_wrong_kind_is_found_but_not_correct():
    truth = ["good", "double", "double", "double", "double", "interrupted"]
    probabilities = [
        [0.2, 0.5, 0.3],  # a false alarm: no recall counts it
        [0.1, 0.8, 0.1],
        [0.1, 0.2, 0.7],  # the wrong kind
        [0.9, 0.1, 0.0],  # missed
        [0.5, 0.5, 0.0],  # undecided: the earlier class, good
        [0.3, 0.0, 0.7],
    ]
    names = ("good", "double", "interrupted")
    found = metrics.recalls_by_defect(truth, probabilities, names)
    assert found["double"] == metrics.DefectRecalls(4, 0.25, 0.5, 0.5)
    assert found["interrupted"] == metrics.DefectRecalls(1, 1.0, 1.0, 0.0)
    assert metrics.correct_class_recall(truth, probabilities, names) == pytest.approx(2 / 5)
    assert metrics.defect_recall(truth, probabilities, names) == pytest.approx(3 / 5)
    assert metrics.aql(truth, probabilities, names) == pytest.approx(2 / 5)


def test_the_papers_aql_is_that_of_the_defect_recall():
    """Table 2, shavers, double, image and map: 242 of 244 images are found, which is under one percent AQL."""
    probabilities = np.repeat([[0.1, 0.9, 0.0], [0.1, 0.0, 0.9], [0.8, 0.1, 0.1]], [240, 2, 2], axis=0)
    row = metrics.recalls_by_defect(["double"] * 244, probabilities, ("good", "double", "interrupted"))["double"]
    assert f"{row.correct:.2%} {row.defect:.2%}" == "98.36% 99.18%"
    assert row.aql < 0.01


def test_with_two_classes_the_area_is_the_binary_one():
    rng = np.random.default_rng(0)
    p, labels = rng.random(40), rng.random(40) > 0.4
    truth = ["anomalous" if label else "good" for label in labels]
    found = metrics.weighted_ovr_auroc(truth, np.stack([1 - p, p], axis=1), ("good", "anomalous"))
    assert found == pytest.approx(metrics.image_auroc(labels, p), abs=1e-12)


def test_a_class_without_images_has_no_weight():
    probabilities = [[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]]
    truth = ["good", "good", "good", "double"]
    names = ("good", "marks", "double")
    # Both areas are 1: the last image has the lowest p(good) and the highest p(double).
    assert metrics.weighted_ovr_auroc(truth, probabilities, names) == 1
    assert list(metrics.recalls_by_defect(truth, probabilities, names)) == ["double"]
    swapped = [probabilities[i] for i in (0, 3, 2, 1)]
    # good: the last has .5, over one of three (.2); double: the last has .4, over two of three.
    expected = 3 / 4 * (2 / 3) + 1 / 4 * (2 / 3)
    assert metrics.weighted_ovr_auroc(truth, swapped, names) == pytest.approx(expected)


def test_without_defects_there_is_nothing_to_recall():
    found = metrics.class_metrics(["good"] * 3, np.full((3, 2), 0.5), ("good", "anomalous"))
    assert all(math.isnan(value) for value in found.values())
    assert metrics.recalls_by_defect(["good"] * 3, np.full((3, 2), 0.5), ("good", "anomalous")) == {}


def test_torch_tensors_are_welcome():
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8]], requires_grad=True)
    assert metrics.class_metrics(["good", "hole"], probabilities, ("good", "hole"))["class_auroc_ovr"] == 1


@pytest.mark.parametrize(
    ("truth", "probabilities", "names", "message"),
    [
        (["good"], [[1, 0], [0, 1]], ("good", "hole"), "shape"),
        (["good", "hole"], [[1, 0, 0], [0, 1, 0]], ("good", "hole"), "shape"),
        (["good", "dent"], [[1, 0], [0, 1]], ("good", "hole"), "dent is none of the classes good, hole"),
        (["good", "hole"], [[1, 0], [math.nan, 1]], ("good", "hole"), "image 1"),
        (["good"], [[1]], ("good",), "two or more"),
        (["good"], [[1, 0]], ("good", "good"), "different"),
    ],
)
def test_what_cannot_be_measured_is_refused(truth, probabilities, names, message):
    with pytest.raises(ValueError, match=message):
        metrics.class_metrics(truth, probabilities, names)

"""Metrics of classifiers: which kind of defect an image has, and whether it has one (paper 001, section 4).

All functions take `true_classes` (N names), `probabilities` (N×C) and `class_names` (C names, the good class first) and
decide for the most probable class, the earlier one of equals. Values are fractions in [0, 1], where the paper has
percent, and nan where the images that a metric is about are missing. `ValueError`: lengths differ, a name is unknown
or twice there, or probabilities are not finite.

Rožanec et al., "Robust Anomaly Map Assisted Multiple Defect Detection with Supervised Classification Techniques", 2022.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics._arrays import Array, ArrayLike, as_numpy
from harness.metrics.image import image_auroc


class DefectRecalls(NamedTuple):
    """How the images of one kind of defect fare: a row of the paper's Table 2, and its AQL (eq. 1)."""

    images: int
    correct: float
    defect: float
    aql: float


def correct_class_recall(true_classes: Sequence[str], probabilities: ArrayLike, class_names: Sequence[str]) -> float:
    """The share of all defective images that are given their own kind of defect.

    The paper has it for one kind of defect at a time (:func:`recalls_by_defect`); this is the mean of those, weighted
    by their numbers of images.
    """
    return _mean(_hits(_judge(true_classes, probabilities, class_names)))


def defect_recall(true_classes: Sequence[str], probabilities: ArrayLike, class_names: Sequence[str]) -> float:
    """The share of all defective images that are given any kind of defect, be it the wrong one (Table 3)."""
    return _mean(_alarms(_judge(true_classes, probabilities, class_names)))


def aql(true_classes: Sequence[str], probabilities: ArrayLike, class_names: Sequence[str]) -> float:
    """The share of all defective images that pass as good: the acceptance quality level, 1 − defect recall (eq. 1).

    Of the paper's two recalls it is the defect recall that section 5 calls a level of less than one percent.
    """
    return 1 - defect_recall(true_classes, probabilities, class_names)


def recalls_by_defect(
    true_classes: Sequence[str], probabilities: ArrayLike, class_names: Sequence[str]
) -> dict[str, DefectRecalls]:
    """Both recalls and the AQL of every kind of defect that there are images of, as in Table 2."""
    judged = _judge(true_classes, probabilities, class_names)
    defective = judged.truth[judged.truth > 0]
    hits, alarms = _hits(judged), _alarms(judged)
    rows = {}
    for index in np.unique(defective):
        own = defective == index
        found = _mean(alarms[own])
        rows[str(class_names[index])] = DefectRecalls(int(own.sum()), _mean(hits[own]), found, 1 - found)
    return rows


def weighted_ovr_auroc(true_classes: Sequence[str], probabilities: ArrayLike, class_names: Sequence[str]) -> float:
    """Area under the ROC curve of each class's probability against the rest, weighted by the class's share of images.

    A class without images has no area and no weight; nan when all images are of one class. With two classes it is the
    binary area.
    """
    return _weighted_auroc(_judge(true_classes, probabilities, class_names))


def class_metrics(
    true_classes: Sequence[str], probabilities: ArrayLike, class_names: Sequence[str]
) -> dict[str, float]:
    """All of them by their MLflow name, over all defective images."""
    judged = _judge(true_classes, probabilities, class_names)
    found = _mean(_alarms(judged))
    return {
        "class_auroc_ovr": _weighted_auroc(judged),
        "correct_class_recall": _mean(_hits(judged)),
        "defect_recall": found,
        "aql": 1 - found,
    }


class _Judged(NamedTuple):
    """True and predicted class of every image as an index, 0 = good, and the probabilities."""

    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    probabilities: Array


def _judge(true_classes: Sequence[str], probabilities: ArrayLike, class_names: Sequence[str]) -> _Judged:
    names, values = [str(name) for name in class_names], as_numpy(probabilities)
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"class_names must be two or more different names, the good class first, got {names}")
    if values.shape != (len(true_classes), len(names)):
        raise ValueError(
            f"probabilities must have the shape images × classes, ({len(true_classes)}, {len(names)}), "
            f"got {values.shape}"
        )
    if not np.isfinite(values).all():
        image = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ValueError(f"probabilities must be finite, but image {image} has {values[image].tolist()}")
    if unknown := sorted({str(name) for name in true_classes} - set(names)):
        raise ValueError(f"{unknown[0]} is none of the classes {', '.join(names)}")
    truth = np.array([names.index(str(name)) for name in true_classes], dtype=np.intp)
    return _Judged(truth, values.argmax(axis=1), values)


def _hits(judged: _Judged) -> NDArray[np.bool_]:
    """Of every defective image, whether it is given its own class."""
    defective = judged.truth > 0
    hits: NDArray[np.bool_] = judged.predicted[defective] == judged.truth[defective]
    return hits


def _alarms(judged: _Judged) -> NDArray[np.bool_]:
    """Of every defective image, whether it is given any class but good."""
    alarms: NDArray[np.bool_] = judged.predicted[judged.truth > 0] > 0
    return alarms


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _weighted_auroc(judged: _Judged) -> float:
    present, counts = np.unique(judged.truth, return_counts=True)
    if len(present) < 2:
        return float("nan")
    areas = [image_auroc(judged.truth == index, judged.probabilities[:, index]) for index in present]
    return float(np.average(areas, weights=counts))

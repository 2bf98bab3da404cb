"""Pixel metrics count what they should: not the padding, and what a crop hides only where asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch

from harness.data.geometry import build_geometry
from harness.data.masks import load_mask, load_regions
from harness.data.readers import read_category
from harness.data.records import Category
from harness.errors import TrainingError
from harness.metrics import PixelEvaluator
from harness.models.adapter import build_model
from harness.runs.evaluate import Evaluation, Predictions, _refuse_non_finite, predict
from harness.schema import compose


def prepare(toy_root: Path, *overrides: str) -> tuple[Category, Evaluation, Predictions]:
    """Return a category, its evaluation, and the predictions of somebody who sees the truth."""
    config = compose([f"dataset.root={toy_root}", "category=conveyor_rail", *overrides])
    category = read_category(config.dataset, config.category)
    geometry = build_geometry(config.preprocess)
    evaluation = Evaluation(category, category.test, geometry, config.metrics.resolution, config.metrics.frame)
    size = config.preprocess.size
    maps = np.zeros((len(category.test), size, size), dtype=np.float32)
    for map_, sample in zip(maps, category.test, strict=True):
        if sample.masks:
            map_[geometry.mask(load_mask(category, sample))] = 1.0
    scores = maps.max(axis=(1, 2)) if overrides else np.array([s.label for s in category.test], dtype=np.float32)
    return category, evaluation, Predictions(scores.astype(np.float32), maps)


PIXEL = ("pixel_auroc", "pixel_ap", "aupro", "auspro")


def test_the_truth_scores_one(toy_root: Path) -> None:
    _, evaluation, predictions = prepare(toy_root)
    metrics = evaluation.measure(predictions)
    assert all(metrics[name] == pytest.approx(1.0, abs=1e-12) for name in PIXEL)
    assert metrics["image_auroc"] == 1.0


def test_padding_is_not_scored(toy_root: Path) -> None:
    _, evaluation, predictions = prepare(toy_root)
    assert predictions.maps is not None
    padded = predictions.maps.copy()
    padded[:, :8] = 9.0  # the rail is wide: rows above and below it are padding
    padded[:, -8:] = 9.0
    assert evaluation.measure(Predictions(predictions.scores, padded)) == evaluation.measure(predictions)


def test_what_a_crop_hides_is_missed_on_the_full_frame_only(toy_root: Path) -> None:
    crop = ("preprocess=center_crop", "preprocess.resize=128", "preprocess.size=64")
    _, visible, predictions = prepare(toy_root, *crop)
    _, full, _ = prepare(toy_root, *crop, "metrics.frame=full")
    seen, all_of_it = visible.measure(predictions), full.measure(predictions)
    assert all(seen[name] == pytest.approx(1.0, abs=1e-12) for name in PIXEL)
    assert all(all_of_it[name] < 0.98 for name in PIXEL)


def test_native_resolution_scores_every_pixel_of_the_image(toy_root: Path) -> None:
    _, evaluation, predictions = prepare(toy_root, "metrics.resolution=native", "preprocess.size=192")
    metrics = evaluation.measure(predictions)
    assert metrics["pixel_auroc"] > 0.999
    assert metrics["auspro"] > 0.9


@pytest.mark.parametrize("frame", ["visible", "full"])
@pytest.mark.parametrize("resolution", ["model", "native"])
def test_maps_placed_one_at_a_time_score_as_all_at_once(toy_root: Path, resolution: str, frame: str) -> None:
    overrides = ("preprocess=center_crop", "preprocess.resize=80", "preprocess.size=64")
    placed = (resolution, frame)
    category, evaluation, predictions = prepare(
        toy_root, *overrides, f"metrics.resolution={resolution}", f"metrics.frame={frame}"
    )
    assert predictions.maps is not None
    geometry = build_geometry(compose([f"dataset.root={toy_root}", *overrides]).preprocess)
    masks = [load_mask(category, sample) for sample in category.test]
    regions = [geometry.regions(load_regions(category, sample), *placed) for sample in category.test]
    noisy = predictions.maps + np.random.default_rng(0).normal(size=predictions.maps.shape).astype(np.float32)
    maps = [geometry.place(m, *mask.shape, *placed, outside=-np.inf) for m, mask in zip(noisy, masks, strict=True)]
    expected = PixelEvaluator([geometry.truth(mask, *placed) for mask in masks], regions).evaluate(maps)
    found = evaluation.measure(Predictions(predictions.scores, noisy))
    assert {name: found[name] for name in PIXEL} == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(value: float) -> None:
    maps = np.zeros((1, 2, 2), dtype=np.float32)
    with pytest.raises(TrainingError, match="image scores"):
        _refuse_non_finite(Predictions(np.array([value], dtype=np.float32), maps))
    maps[0, 0, 0] = value
    with pytest.raises(TrainingError, match="anomaly maps"):
        _refuse_non_finite(Predictions(np.zeros(1, dtype=np.float32), maps))


def test_scoring_leaves_every_part_of_a_model_in_its_mode() -> None:
    """A teacher that is frozen by eval() alone must not drift from the next epoch on."""
    config = compose(["method=ganomaly", "preprocess.size=32"])
    model = build_model(config)
    model.train()
    model.model.discriminator.eval()
    modes = [module.training for module in model.modules()]
    batch = ImageBatch(image=torch.rand(2, 3, 32, 32), image_path=["a", "b"])
    predict(model, [batch], torch.autocast("cpu", enabled=False))
    assert [module.training for module in model.modules()] == modes


def test_a_classifiers_recalls_are_told_for_every_kind_of_defect(toy_root: Path) -> None:
    """Paper 001, Table 2: given its own kind, and given any kind; by names that MLflow takes."""
    category, evaluation, _ = prepare(toy_root)
    classes = ("good", *sorted({sample.defect for sample in category.test} - {"good"}))
    truth = [classes.index(sample.defect) for sample in category.test]
    found = [classes.index("crack") if classes[t] == "debris" else t for t in truth]  # debris is taken for cracks
    missed = next(i for i, t in enumerate(truth) if classes[t] == "chipped_edge")
    found[missed] = 0
    probabilities = np.eye(len(classes), dtype=np.float32)[found]
    predictions = Predictions(1 - probabilities[:, 0], None, probabilities=probabilities, classes=classes)
    chipped = sum(classes[t] == "chipped_edge" for t in truth)
    assert evaluation.recalls(predictions) == {
        "defect/chipped_edge/correct_class_recall": 1 - 1 / chipped,
        "defect/chipped_edge/defect_recall": 1 - 1 / chipped,
        "defect/crack/correct_class_recall": 1.0,
        "defect/crack/defect_recall": 1.0,
        "defect/debris/correct_class_recall": 0.0,
        "defect/debris/defect_recall": 1.0,
    }
    two = Predictions(
        predictions.scores, None, probabilities=np.eye(2)[[int(t > 0) for t in truth]], classes=("good", "anomalous")
    )  # type: ignore[arg-type]
    assert evaluation.recalls(two) == {}


def test_a_kind_of_defect_that_there_was_nothing_to_learn_of_is_missed(toy_root: Path) -> None:
    """Under kfold the only image of a kind is in one test fold, and its kind in no training."""
    category, evaluation, _ = prepare(toy_root)
    classes = ("good", "chipped_edge", "crack")
    guess = np.array([classes.index(s.defect) if s.defect in classes else 2 for s in category.test])
    probabilities = np.eye(3, dtype=np.float32)[guess]
    predictions = Predictions(1 - probabilities[:, 0], None, probabilities=probabilities, classes=classes)
    defective = [sample.defect for sample in category.test if sample.label]
    metrics = evaluation.measure(predictions)
    assert metrics["correct_class_recall"] == 1 - defective.count("debris") / len(defective)
    assert metrics["defect_recall"] == 1.0
    assert evaluation.recalls(predictions)["defect/debris/correct_class_recall"] == 0.0

"""What supervised methods share: classes of images and batches with probabilities."""

from pathlib import Path

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from torch import nn
from torch.utils.data import DataLoader

from harness.errors import ConfigError
from harness.models.components.classification import (
    BINARY,
    Classified,
    ClassifierModule,
    class_of,
)

OFF = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}
PATHS = ["cable/train/good/0.png", "cable/test/bent/0.png", "cable/test/cut/1.png"]


class _Brightness(nn.Module):
    """The brighter the image, the less likely it is good; the other classes share the rest."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.others = classes - 1

    def forward(self, images: torch.Tensor) -> Classified:
        score = images.mean(dim=(1, 2, 3))
        rest = (score / self.others)[:, None].expand(-1, self.others)
        return Classified(score, torch.cat([1 - score[:, None], rest], dim=1))


class _Classifier(ClassifierModule):
    def __init__(self, classes: tuple[str, ...] = BINARY) -> None:
        super().__init__(classes, **OFF)
        self.model = _Brightness(len(classes))


def _batch(labels: list[int]) -> ImageBatch:
    return ImageBatch(
        image=torch.rand(len(labels), 3, 8, 8),
        gt_label=torch.tensor(labels),
        gt_mask=torch.zeros(len(labels), 8, 8, dtype=torch.bool),
        image_path=PATHS[: len(labels)],
    )


@pytest.mark.parametrize(
    ("label", "path", "expected"),
    [(0, PATHS[0], "good"), (0, "visa/Normal/3.png", "good"), (1, PATHS[1], "bent"), (True, "a/test/cut/1.png", "cut")],
)
def test_the_class_of_an_image_is_good_or_the_folder_of_its_defect(label: int, path: str, expected: str) -> None:
    assert class_of(label, path) == expected


def test_with_two_classes_every_defect_is_the_second() -> None:
    assert _Classifier().targets(_batch([0, 1, 1])).tolist() == [0, 1, 1]


def test_two_classes_need_no_paths() -> None:
    batch = ImageBatch(image=torch.rand(2, 3, 8, 8), gt_label=torch.tensor([1, 0]))
    assert _Classifier().targets(batch).tolist() == [1, 0]


def test_with_several_classes_the_folder_names_the_defect() -> None:
    targets = _Classifier(("good", "cut", "bent")).targets(_batch([0, 1, 1]))
    assert targets.tolist() == [0, 2, 1]
    assert targets.dtype == torch.long


def test_a_class_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match="class bent were not expected"):
        _Classifier(("good", "cut")).targets(_batch([0, 1, 1]))


@pytest.mark.parametrize("classes", [("good",), ("cut", "good"), ("good", "cut", "cut"), ()])
def test_good_comes_first_of_two_or_more_different_classes(classes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="give good first"):
        _Classifier(classes)


@pytest.mark.parametrize("step", ["validation_step", "test_step", "predict_step"])
def test_every_step_adds_scores_and_probabilities_to_the_batch(step: str) -> None:
    model, batch = _Classifier(("good", "bent", "cut")), _batch([0, 1, 1])
    score = batch.image.mean(dim=(1, 2, 3))
    result = getattr(model, step)(batch, 0)

    assert result is batch  # where anomalib's evaluator looks
    torch.testing.assert_close(result.pred_score, score)
    torch.testing.assert_close(result.class_probabilities, torch.stack([1 - score, score / 2, score / 2], dim=1))
    assert result.gt_label.tolist() == [False, True, True]
    assert result.image_path == PATHS
    assert result.anomaly_map is None
    assert result.pred_label is None


def test_anomalibs_engine_measures_a_classifier(tmp_path: Path) -> None:
    model = _Classifier()
    model.evaluator = Evaluator(test_metrics=AUROC(fields=["pred_score", "gt_label"], prefix="image_"))
    loader = DataLoader([_batch([0, 1, 1]), _batch([0, 1])], batch_size=None)
    (results,) = Engine(default_root_dir=tmp_path, accelerator="cpu", logger=False).test(model, dataloaders=loader)
    assert 0 <= results["image_AUROC"] <= 1


def test_a_batch_of_one_keeps_its_shapes() -> None:
    result = _Classifier().test_step(_batch([1]), 0)
    assert result.pred_score.shape == (1,)
    assert result.class_probabilities.shape == (1, 2)

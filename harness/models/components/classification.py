"""What supervised methods share: classes of images, and batches that carry a probability for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn

from harness.errors import ConfigError
from harness.models.components.module import OwnModule

GOOD = "good"
BINARY = (GOOD, "anomalous")


class Classified(NamedTuple):
    """What a classifier says of N images: an `InferenceBatch` with the probabilities N×C that it stands on."""

    pred_score: torch.Tensor
    class_probabilities: torch.Tensor
    anomaly_map: torch.Tensor | None = None
    pred_label: torch.Tensor | None = None
    pred_mask: torch.Tensor | None = None


def class_of(label: int | bool, path: str | Path) -> str:
    """Return the class of an image: good, or the folder that holds it, which names the defect in every layout."""
    return Path(path).parent.name if label else GOOD


class ClassifierModule(OwnModule):
    """A supervised method: it trains on labelled images, good and defective.

    The score of an image is 1 − p(good). With `classes=("good", "anomalous")` all defects are one class; else the
    class of a defective image is the name of the folder that holds it.

    Args:
        classes: their names; `good` first.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: when `good` is not the first of two or more different classes.
    """

    def __init__(
        self,
        classes: Sequence[str] = BINARY,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        if len(set(classes)) != len(classes) or len(classes) < 2 or classes[0] != GOOD:
            raise ConfigError(f"classes={list(classes)} is not possible; give {GOOD} first, then every kind of defect.")
        self.classes = tuple(classes)

    def targets(self, batch: ImageBatch) -> torch.Tensor:
        """Return the class index of every image (N), by its label and, with several kinds of defect, its folder.

        Raises:
            ConfigError: for an image of a class that the model does not know.
        """
        assert batch.gt_label is not None
        if self.classes == BINARY:
            return batch.gt_label.long()
        assert batch.image_path is not None
        names = [class_of(bool(label), path) for label, path in zip(batch.gt_label, batch.image_path, strict=True)]
        if unknown := sorted(set(names) - set(self.classes)):
            raise ConfigError(f"Images of class {unknown[0]} were not expected; the classes are {self.classes}.")
        return torch.tensor([self.classes.index(name) for name in names], device=batch.gt_label.device)

    def validation_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the batch with scores and class probabilities added."""
        del args, kwargs
        return self._classified(batch)

    def test_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the batch with scores and class probabilities added."""
        del batch_idx, args, kwargs
        return self._classified(batch)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> STEP_OUTPUT:
        """Return the batch with scores and class probabilities added."""
        del batch_idx, dataloader_idx
        return self._classified(batch)

    def _classified(self, batch: ImageBatch) -> Any:
        """Add to the batch itself: anomalib's evaluator reads that one, not what a step returns."""
        output = self.model(batch.image)._asdict()
        probabilities = output.pop("class_probabilities")
        classified: Any = batch.update(**output)
        classified.class_probabilities = probabilities  # N×C, in the order of `classes`
        return classified

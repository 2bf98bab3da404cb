"""Score a model on images and measure it: the same code for every epoch, every method and every split."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import tee
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.geometry import Geometry
from harness.data.masks import Region, load_regions, sample_shape
from harness.data.records import Category, Sample
from harness.errors import TrainingError
from harness.metrics import PixelEvaluator, class_metrics, image_metrics, recalls_by_defect

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule

_NO_METRIC_NAME = r"[^\w.\- ]"  # what MLflow, or our slashes, leave no place for


@dataclass(frozen=True)
class Predictions:
    """Raw image scores (N) and raw anomaly maps (N×size×size, or None), in the order of the samples.

    A classifier also gives the probabilities of its `classes` (N×C).

    `seconds_per_image` is the model's time with its normalisation, in batches of the loader's size, synchronised; the
    first of several batches warms up and is not in it. Loading is not in it either.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32] | None
    seconds_per_image: float = 0.0
    probabilities: NDArray[np.float32] | None = None
    classes: tuple[str, ...] = ()


class Evaluation:
    """The ground truth of a split, prepared once, and every metric of predictions on it.

    Args:
        category: what the samples belong to.
        samples: the images that are scored, in order.
        geometry: how images became model inputs.
        resolution: `model` or `native`: on which pixel grid maps and masks are compared.
        frame: `visible` or `full`: whether what preprocessing cut off counts, as scored lowest.
    """

    def __init__(
        self, category: Category, samples: Sequence[Sample], geometry: Geometry, resolution: str, frame: str
    ) -> None:
        self.labels = np.array([sample.label for sample in samples])
        self._paths = [sample.path for sample in samples]
        self._geometry, self._resolution, self._frame = geometry, resolution, frame
        self._pixels: PixelEvaluator | None = None
        if category.masked:
            self._prepare_pixels(category, samples)

    def measure(self, predictions: Predictions) -> dict[str, float]:
        """Return every metric as a fraction; those of pixels and of classes only where there are some."""
        metrics = image_metrics(self.labels, predictions.scores)
        if predictions.probabilities is not None:
            metrics |= class_metrics(*self._classified(predictions))
        if self._pixels is not None and predictions.maps is not None:
            metrics |= self._pixels.evaluate(_LazyMaps(len(self._scored), partial(self._place, predictions.maps)))
        return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}

    def recalls(self, predictions: Predictions) -> dict[str, float]:
        """Return both recalls of every kind of defect (paper 001, Table 2) by MLflow name; {} for two classes alone."""
        from harness.models.components.classification import BINARY

        if predictions.probabilities is None or predictions.classes == BINARY:
            return {}
        found = recalls_by_defect(*self._classified(predictions))
        return {
            f"defect/{re.sub(_NO_METRIC_NAME, '_', kind)}/{name}": value
            for kind, of_kind in found.items()
            for name, value in (("correct_class_recall", of_kind.correct), ("defect_recall", of_kind.defect))
        }

    def _classified(self, predictions: Predictions) -> tuple[list[str], NDArray[np.float32], tuple[str, ...]]:
        """Return true classes, probabilities and class names.

        A kind of defect that there was nothing to learn of (all its images are in the test) is a class too, which the
        model gives no probability.
        """
        assert predictions.probabilities is not None
        truth = self._true_classes(predictions.classes)
        unseen = tuple(sorted(set(truth) - set(predictions.classes)))
        none = np.zeros((len(truth), len(unseen)), dtype=np.float32)
        return truth, np.concatenate([predictions.probabilities, none], axis=1), (*predictions.classes, *unseen)

    def _true_classes(self, classes: tuple[str, ...]) -> list[str]:
        from harness.models.components.classification import BINARY, class_of

        if classes == BINARY:
            return [BINARY[label] for label in self.labels]
        return [class_of(label, path) for label, path in zip(self.labels, self._paths, strict=True)]

    def _prepare_pixels(self, category: Category, samples: Sequence[Sample]) -> None:
        """Bring the ground truth, image by image, to the grid on which maps are compared.

        Anomalous images without a mask have none.
        """
        self._scored = [i for i, sample in enumerate(samples) if sample.masks or not sample.label]
        self._shapes = [sample_shape(samples[i]) for i in self._scored]
        regions, same_regions = tee(self._regions(load_regions(category, samples[i])) for i in self._scored)
        masks = (self._union(found, *shape) for found, shape in zip(same_regions, self._shapes, strict=True))
        self._pixels = PixelEvaluator(masks, regions)

    def _regions(self, native: list[Region]) -> list[Region]:
        return self._geometry.regions(native, self._resolution, self._frame)

    def _union(self, regions: list[Region], height: int, width: int) -> NDArray[np.bool_]:
        empty = np.zeros((height, width), dtype=bool)
        union = self._geometry.truth(empty, self._resolution, self._frame)
        for region, _ in regions:
            union |= region
        return union

    def _place(self, maps: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        """Bring a map to the grid of its mask; `index` counts the images that are scored by pixels."""
        map_, shape = maps[self._scored[index]], self._shapes[index]
        return self._geometry.place(map_, *shape, self._resolution, self._frame, outside=-np.inf)


@dataclass(frozen=True)
class _LazyMaps:
    """`count` maps, each made when it is asked for: at native resolution all of them would take gigabytes."""

    count: int
    make: Callable[[int], NDArray[np.float32]]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        return self.make(index)


def predict(model: AnomalibModule, loader: Any, precision: AbstractContextManager[Any]) -> Predictions:
    """Return raw scores and maps of every image of a loader, computed in the precision of the training.

    Raises:
        TrainingError: when a score or a map is not finite.
    """
    import torch

    normalise: Any = model.pre_processor
    scores, maps, probabilities, seconds = [], [], [], []
    modes = {module: module.training for module in model.modules()}  # a frozen part may be in another than the model
    model.eval()
    with torch.inference_mode(), torch.random.fork_rng(), precision:
        for index, batch in enumerate(loader):
            batch.image = batch.image.to(model.device)
            started = time.perf_counter()
            batch.image = normalise(batch.image)
            output: Any = model.test_step(batch, index)
            if output.pred_score is None and output.anomaly_map is not None:
                output.pred_score = output.anomaly_map.flatten(1).amax(1)
            scores.append(output.pred_score.reshape(-1).float().cpu().numpy())  # waits for the device
            seconds.append(time.perf_counter() - started)
            if (of_classes := getattr(output, "class_probabilities", None)) is not None:
                probabilities.append(of_classes.float().cpu().numpy())
            if output.anomaly_map is not None:
                maps.append(_squeeze(output.anomaly_map.float().cpu().numpy()))
    for module, training in modes.items():
        module.training = training
    timed = slice(1 if len(scores) > 1 else 0, None)
    per_image = sum(seconds[timed]) / sum(map(len, scores[timed]))
    predictions = Predictions(
        np.concatenate(scores),
        np.concatenate(maps) if maps else None,
        per_image,
        np.concatenate(probabilities) if probabilities else None,
        tuple(getattr(model, "classes", ())),
    )
    _refuse_non_finite(predictions)
    return predictions


def _squeeze(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return maps[:, 0] if maps.ndim == 4 else maps


def _refuse_non_finite(predictions: Predictions) -> None:
    arrays: Iterable[tuple[str, NDArray[np.float32] | None]] = (
        ("image scores", predictions.scores),
        ("anomaly maps", predictions.maps),
    )
    for name, values in arrays:
        if values is not None and not np.isfinite(values).all():
            raise TrainingError(
                f"{int((~np.isfinite(values)).sum())} values of the {name} are not finite: "
                "the training diverged; lower the learning rate or check the images."
            )

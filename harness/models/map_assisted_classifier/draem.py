"""DRAEM's training as a first stage."""

import math
from collections.abc import Iterable, Iterator
from logging import getLogger
from pathlib import Path

import torch
from anomalib.data import ImageBatch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from anomalib.models.image.draem.torch_model import DraemModel
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from harness.errors import TrainingError
from harness.models.components.loss import EpochMeans
from harness.models.draem.lightning_model import BETA
from harness.models.draem.loss import DraemLoss
from harness.models.draem.textures import settle_textures

logger = getLogger(__name__)


def build_generator(dtd: Path | str | None) -> PerlinAnomalyGenerator:
    """Build the generator of synthetic anomalies; without a folder of textures it fills its masks with Perlin noise.

    Raises:
        WeightsError: when there is not one image in the folder, which anomalib takes for no folder.
    """
    generator = PerlinAnomalyGenerator(anomaly_source_path=dtd, blend_factor=BETA)
    settle_textures(generator, dtd)
    return generator


def good_images(batches: Iterable[ImageBatch], size: int) -> Iterator[torch.Tensor]:
    """Yield the good images of labelled batches in groups B×3×H×W, B = `size`; the last one may be smaller."""
    waiting: list[torch.Tensor] = []
    for batch in batches:
        assert batch.image is not None and batch.gt_label is not None
        waiting += batch.image[~batch.gt_label.bool()].as_subclass(torch.Tensor)
        while len(waiting) >= size:
            yield torch.stack(waiting[:size])
            waiting = waiting[size:]
    if waiting:
        yield torch.stack(waiting)


class DraemTraining:
    """DRAEM's training on good images, some with synthetic anomalies.

    Adam with a learning rate that falls to a tenth after 4/7 and again after 6/7 of the epochs: of 700, after the 400
    and 600 of Zavrtanik et al., "DRAEM", ICCV 2021.

    Args:
        draem: the network, trained in place.
        generator: of synthetic anomalies.
        epochs: over the good images.
        learning_rate: Adam's.
    """

    def __init__(self, draem: DraemModel, generator: PerlinAnomalyGenerator, epochs: int, learning_rate: float) -> None:
        self._draem, self._generator, self._epochs = draem, generator, epochs
        self._loss = DraemLoss()
        self._optimizer = Adam(draem.parameters(), lr=learning_rate)
        milestones = [math.ceil(epochs * 4 / 7), math.ceil(epochs * 6 / 7)]
        self._schedule = MultiStepLR(self._optimizer, milestones, gamma=0.1)

    def run(self, loader: Iterable[ImageBatch], batch_size: int) -> float:
        """Train, freeze the network and return the mean loss of the last epoch.

        Raises:
            TrainingError: when the loss is not finite, or there are no good images.
        """
        self._draem.requires_grad_(True).train()
        loss = math.nan
        for epoch in range(self._epochs):
            loss = self._epoch(good_images(loader, batch_size))
            if not math.isfinite(loss):
                raise TrainingError(
                    f"DRAEM's loss is {loss} in epoch {epoch}: the training diverged; lower draem_learning_rate."
                )
            self._schedule.step()
            logger.info("DRAEM epoch %d of %d: loss %.4f", epoch + 1, self._epochs, loss)
        self._draem.requires_grad_(False).eval()
        return loss

    def _epoch(self, batches: Iterable[torch.Tensor]) -> float:
        means = EpochMeans()
        for images in batches:
            augmented, masks = self._generator(images)
            reconstruction, prediction = self._draem(augmented)
            loss = self._loss(images, reconstruction, masks, prediction)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            means.add([loss], len(images))
        mean = means.take()
        if mean is None:
            raise TrainingError("There are no good images to train DRAEM on; inputs=image needs none.")
        return mean.item()

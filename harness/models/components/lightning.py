"""The training that RADL and SimpleNet have in common."""

from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn

from .checkpoints import keep_settings_only
from .loss import EpochMeans, LossParts
from .model import FakeFeatureModel
from .module import OwnModule

LOGGED = ("train/loss", "train/loss_real", "train/loss_fake", "train/p_real", "train/p_fake")


class FakeFeatureModule(OwnModule):
    """Train a discriminator on real and fake features; subclasses set `model`, `loss` and the optimiser.

    The default pre-processor is anomalib's: 256×256 and ImageNet's statistics. Logged are each epoch's means
    of `train/loss`, its parts `train/loss_real` and `train/loss_fake`, and of the shares `train/p_real` of
    real patches with a logit of at least `margin` and `train/p_fake` of fake ones below −`margin`.
    """

    model: FakeFeatureModel
    margin: float = 0.5

    def __init__(
        self,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        self._means = EpochMeans()
        keep_settings_only(self)

    def training_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the loss of a batch of normal images."""
        del args, kwargs
        real, fake = self.model(batch.image)
        parts: LossParts = self.loss(real, fake)
        with torch.no_grad():
            p_real, p_fake = (real >= self.margin).float().mean(), (fake < -self.margin).float().mean()
            self._means.add((parts.total, parts.real, parts.fake, p_real, p_fake), batch.batch_size)
        return parts.total

    def on_train_epoch_start(self) -> None:
        """Forget the rest of an epoch that was interrupted."""
        self._means.take()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Log the epoch's means with its last batch, in time for what callbacks do as it ends."""
        del args, kwargs
        if self.trainer.is_last_batch:
            self._log_means()

    def on_train_epoch_end(self) -> None:
        """Log what there is of an epoch that `max_steps` cut short."""
        self._log_means()

    def _log_means(self) -> None:
        if (means := self._means.take()) is not None:
            named = dict(zip(LOGGED, means.unbind(), strict=True))
            self.log_dict(named, on_step=False, on_epoch=True, batch_size=1)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return everything but the frozen backbone."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

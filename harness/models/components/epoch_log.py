"""Losses of anomalib's models under the harness's names."""

from typing import Any

from anomalib.data import Batch
from anomalib.models.components import AnomalibModule


class EpochLog(AnomalibModule):
    """Put before anomalib's class: what its steps log becomes the epoch's mean under `train/loss` and `train/loss_…`.

    anomalib logs every step too, as `train_loss_step` beside `train_loss_epoch`, which is twice the same curve.
    """

    _images = 1  # of the present batch

    def on_train_batch_start(self, batch: Batch[Any], *args: Any) -> None:
        """Count the images, by which an epoch's mean is weighted."""
        del args
        assert batch.image is not None
        self._images = len(batch.image)

    def log(self, name: str, value: Any, *args: Any, **settings: Any) -> None:
        """Log a value of `training_step` at the end of the epoch; other values as they are.

        Args:
            name: `train_loss` becomes `train/loss`, and `train_st` becomes `train/loss_st`.
            value: of a step.
            args: as in Lightning.
            settings: as in Lightning; not used for losses.
        """
        if name.startswith("train_"):
            part = name.removeprefix("train_")
            name = "train/loss" if part == "loss" else f"train/loss_{part}"
            settings = {"on_step": False, "on_epoch": True, "batch_size": self._images}
        super().log(name, value, *args, **settings)

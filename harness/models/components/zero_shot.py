"""Models that need no training, in a trainer that trains."""

from typing import Any


class ZeroShotMixin:
    """Before a model without a training step: it passes over the training images and learns nothing."""

    def training_step(self, *args: Any, **kwargs: Any) -> None:
        """Leave the model as it is."""

    def configure_optimizers(self) -> None:
        """Have none."""

"""What the models of the harness tell anomalib alike."""

from typing import Any

from anomalib import LearningType
from anomalib.data import ImageBatch
from anomalib.models.components import AnomalibModule
from lightning.pytorch.utilities.types import STEP_OUTPUT


class OwnModule(AnomalibModule):
    """A model that is not anomalib's: the trainer is the user's, and validation adds raw scores and maps."""

    def validation_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the batch with raw scores and maps added."""
        del args, kwargs
        return batch.update(**self.model(batch.image)._asdict())

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No clipping, no sanity check of an untrained model; the number of epochs is the user's."""
        return {"gradient_clip_val": 0, "num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """One-class: also of classifiers, for whose labelled images anomalib has no name."""
        return LearningType.ONE_CLASS

"""DSR as an anomalib model."""

from pathlib import Path
from typing import Any

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import Dsr as AnomalibDsr
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn

from harness.models.components.epoch_log import EpochLog

from .loss import SecondStageLoss, ThirdStageLoss
from .torch_model import WIDTH, DsrModel


class Dsr(EpochLog, AnomalibDsr):  # type: ignore[misc]  # anomalib's to_onnx goes before Lightning's
    """anomalib's DSR (Zavrtanik et al., ECCV 2022), which downloads nothing and can be made narrower.

    Its segmentation losses count normal pixels too: see :class:`~harness.models.components.focal.FocalLoss`. As in
    anomalib they take a softmax of what is one already, which bounds them by 0.70.
    Seven tenths of the epochs train everything but the upsampling module, the rest that module alone; until then the
    maps, though not the scores, are those of an untrained module. Images are in [0, 1], height and width multiples
    of 32. As in anomalib the learning rate stays at 2e-4: it defines a fall to a tenth, and never steps it.

    Args:
        dsr_dictionary: the pre-trained encoder, codebooks and decoder, a file of tensors that is read as the training
            starts; a checkpoint holds them.
        width: base width of the two U-Nets that segment, and half the width of the network that reconstructs images.
        latent_anomaly_strength: lower bound of the strength of synthetic anomalies.
        upsampling_train_ratio: share of the epochs before the upsampling module is trained.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        WeightsError: as the training starts, when the dictionary cannot be read or does not fit.
    """

    def __init__(
        self,
        dsr_dictionary: Path | str,
        width: int = WIDTH,
        latent_anomaly_strength: float = 0.2,
        upsampling_train_ratio: float = 0.7,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            latent_anomaly_strength=latent_anomaly_strength,
            upsampling_train_ratio=upsampling_train_ratio,
            pre_processor=pre_processor,  # type: ignore[arg-type]  # any module
            post_processor=post_processor,  # type: ignore[arg-type]
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.dsr_dictionary = Path(dsr_dictionary)
        self.model: DsrModel = DsrModel.of(self.model, width)
        self.second_stage_loss: SecondStageLoss = SecondStageLoss()
        self.third_stage_loss: ThirdStageLoss = ThirdStageLoss()

    def prepare_pretrained_model(self) -> Path:  # type: ignore[override]  # a static download in anomalib
        """Return the file of the dictionary."""
        return self.dsr_dictionary

    def training_step(self, batch: Batch[Any]) -> STEP_OUTPUT:
        """Train one of the two stages on a batch of normal images."""
        output: Any = super().training_step(batch)
        parts: dict[str, Any] = self.second_stage_loss.parts
        if self.current_epoch >= self.second_phase:  # the last stage's loss is focal alone
            parts = dict.fromkeys(("hi", "lo", "image"), 0.0) | {"focal": output["loss"].detach()}
        for part, value in parts.items():
            self.log(f"train_{part}", value)
        return output

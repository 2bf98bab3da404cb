"""DRAEM as an anomalib model."""

import tempfile
from pathlib import Path
from typing import Any

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import Draem as AnomalibDraem
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn

from harness.errors import WeightsError
from harness.models.components.epoch_log import EpochLog

from .loss import DraemLoss
from .textures import REMEDY, settle_textures
from .torch_model import WIDTH, build_draem

BETA = (0.1, 1.0)  # opacity of a synthetic anomaly


class Draem(EpochLog, AnomalibDraem):  # type: ignore[misc]  # anomalib's to_onnx goes before Lightning's
    """anomalib's DRAEM (Zavrtanik et al., ICCV 2021), which downloads nothing and can be made narrower.

    Its segmentation loss counts normal pixels too: see :class:`~harness.models.components.focal.FocalLoss`.
    Adam with 1e-4, a tenth of it after 400 and again after 600 epochs. Images are in [0, 1], height and width
    multiples of 32. anomalib's score is the largest pixel of the map; the paper's code takes 21×21 means first.
    The paper rotates training images by up to 45°; anomalib does not.

    Args:
        dtd: a folder of textures (the Describable Textures Dataset); None fills anomalies with Perlin noise.
        width: base width of the autoencoder, twice the discriminator's.
        enable_sspcab: add SSPCAB blocks (Ristea et al., CVPR 2022).
        sspcab_lambda: weight of their loss.
        beta: opacity of a synthetic anomaly, or the range that it is drawn from.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        WeightsError: when there is no folder of textures, or no image in it.
        ConfigError: for an odd width.
    """

    def __init__(
        self,
        dtd: Path | str | None = None,
        width: int = WIDTH,
        enable_sspcab: bool = False,
        sspcab_lambda: float = 0.1,
        beta: float | tuple[float, float] = BETA,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        if dtd is not None and not Path(dtd).is_dir():  # which anomalib would take as an order to download
            raise WeightsError(f"dtd={dtd} is no folder; {REMEDY}.")
        with tempfile.TemporaryDirectory() as empty:
            super().__init__(
                dtd_dir=Path(dtd or empty).absolute(),
                enable_sspcab=enable_sspcab,
                sspcab_lambda=sspcab_lambda,
                beta=beta if isinstance(beta, float) else (beta[0], beta[1]),  # of a list it would make 0.5
                pre_processor=pre_processor,  # type: ignore[arg-type]  # any module
                post_processor=post_processor,  # type: ignore[arg-type]
                evaluator=evaluator,
                visualizer=visualizer,
            )
        settle_textures(self.augmenter, dtd)
        self.loss: DraemLoss = DraemLoss()
        if width != WIDTH:
            self.model = build_draem(width, enable_sspcab)
            if enable_sspcab:
                self.setup_sspcab()

    def training_step(self, batch: Batch[Any], *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the loss of a batch of normal images, half of them with a synthetic anomaly."""
        output = super().training_step(batch, *args, **kwargs)
        for part, value in self.loss.parts.items():
            self.log(f"train_{part}", value)
        return output

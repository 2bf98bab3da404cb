"""GANomaly as an anomalib model."""

from typing import Any

from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import Ganomaly as AnomalibGanomaly
from anomalib.models.image.ganomaly.torch_model import GanomalyModel
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn

from harness.errors import TrainingError


class Ganomaly(AnomalibGanomaly):
    """anomalib's GANomaly (Akcay et al., ACCV 2018): same network, same updates, same scores.

    It scores whole images and gives no map. Here it takes images of any shape, which anomalib's network pads to a
    square with a power of two as its side but is built for before, and logs `train/loss`, the sum of both losses.

    Against its paper, anomalib's version normalises with ImageNet's statistics, though the generator ends in a tanh,
    and its own drawing of the initial weights reaches none: they are PyTorch's.

    Args:
        n_features: channels of the first block; they double from block to block.
        latent_vec_size: length of the bottleneck, whose change by reconstruction is the score.
        extra_layers: further convolutions behind the first block.
        wadv: weight of the adversarial loss.
        wcon: weight of the mean absolute pixel error.
        wenc: weight of the bottlenecks' difference.
        lr: Adam's learning rate, for generator and discriminator.
        beta1: Adam's.
        beta2: Adam's.
        pre_processor: as in anomalib; with a `Resize`, which tells the size of the network.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ValueError: when the pre-processor tells no image size.
    """

    def __init__(
        self,
        n_features: int = 64,
        latent_vec_size: int = 100,
        extra_layers: int = 0,
        wadv: float = 1,
        wcon: float = 50,
        wenc: float = 1,
        lr: float = 2e-4,
        beta1: float = 0.5,
        beta2: float = 0.999,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            n_features=n_features,
            latent_vec_size=latent_vec_size,
            extra_layers=extra_layers,
            wadv=wadv,  # type: ignore[arg-type]  # any number works
            wcon=wcon,  # type: ignore[arg-type]
            wenc=wenc,  # type: ignore[arg-type]
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            pre_processor=pre_processor,  # type: ignore[arg-type]
            post_processor=post_processor,  # type: ignore[arg-type]
            evaluator=evaluator,
            visualizer=visualizer,
        )
        assert self.input_size is not None  # anomalib's constructor insists
        side = 1 << (max(self.input_size) - 1).bit_length()
        if self.input_size != (side, side):
            self.model = GanomalyModel((side, side), 3, n_features, latent_vec_size, extra_layers)

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:
        """Update generator and discriminator as anomalib, and log each epoch's mean of their losses' sum."""
        try:
            losses: Any = super().training_step(batch, batch_idx)
        except RuntimeError as error:
            if "between 0 and 1" not in str(error):  # what torch's cross-entropy says of nan
                raise
            raise TrainingError(
                "The discriminator's output is not finite: the training diverged; lower method.lr."
            ) from error
        loss = losses["generator_loss"].detach() + losses["discriminator_loss"].detach()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return losses

"""Skip-GANomaly as an anomalib model."""

from typing import Any, cast

from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.visualization import Visualizer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from harness.errors import ConfigError
from harness.models.components.module import OwnModule

from .loss import DiscriminatorLoss, GeneratorLoss, GeneratorLossParts
from .torch_model import SkipGanomalyModel


class SkipGanomaly(OwnModule):
    """Skip-GANomaly (Akcay et al., IJCNN 2019) with the settings of paper 004 (section 3.2, Table 9).

    A U-Net learns to reconstruct normal images against a discriminator, and shall reconstruct defects badly. The
    weights of its adversarial, contextual and latent losses are 1, 50 and 1, Adam has the learning rate 0.0002 and
    β1 = 0.5; the paper trains 30 epochs at 256×256. It finds that defects are reconstructed about as well as the
    rest (section 4.1), and here too the skips let them pass: expect a weak method.

    What the paper leaves open, and the assumption here:

    * The score: "the weighted sum" of the reconstruction and the latent loss, each an L2 norm (section 3.2),
      squared (section 4.1). The weights are not given; 0.9 and 0.1 are those of the method's own paper. Both terms are
      means over their elements, so that neither grows with the image. It is raw: the method's own paper scales the
      scores of the whole test set to [0, 1], which changes no ranking.
    * The latent loss: section 4.1 compares "the generator and discriminator bottle necks", which nothing trains to
      agree. Compared here are the discriminator's features of image and reconstruction, as in the method's own paper.
    * The map: the paper shows none. It is the squared error of every pixel, the mean over the channels; its mean is
      the reconstruction part of the score.
    * Range of the pixels: section 3.1 standardises every image, which leaves no range that a tanh could cover. The
      generator's last layer is linear, so that any normalisation will do.
    * Networks: blocks of 4×4 convolutions of stride 2, as many as bring the shorter side to one position (8 at
      256), 64 channels doubling up to 512, with a bottleneck and features of 100 channels ("size of the latent z
      vector"); weights are drawn as DCGAN's. An image whose sides are no multiples of 2^depth is padded inside
      by repeating its border, and the map is cut back. Table 9 lists 208 and 304 pixels as ablated, Table 12
      reports 128 and 512 in their place, which such networks divide.
    * Order of the updates: first the generator, then the discriminator, on the same reconstructions. The generator's
      adversarial term is −log D(x̂), the usual form, and not log(1 − D(x̂)). The discriminator is not trained on the
      latent loss.
    * Learning rate policy "lambda, 100": a decay over 100 epochs that starts after the regular ones. Training ends with
      these 30, so the rate is constant.
    * Batches: of 64 in the YAML, the last one perhaps smaller; the paper gives no number.
    * Scoring uses the running means of batch normalisation, so that a score does not depend on an image's neighbours.

    Args:
        depth: number of blocks of each network; None takes as many as the pre-processor's image size allows.
        width: channels of the first block.
        latent_size: channels of the bottleneck and of the discriminator's features.
        adversarial_weight: of −log D(x̂) in the generator's loss.
        contextual_weight: of the mean absolute pixel error.
        latent_weight: of the mean squared difference of features.
        reconstruction_weight: λ of the score; the features have 1 − λ.
        learning_rate: Adam's, for both networks.
        beta1: Adam's.
        beta2: Adam's.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: when a setting is not possible, or there is neither a depth nor an image size.
    """

    model: SkipGanomalyModel

    def __init__(
        self,
        depth: int | None = None,
        width: int = 64,
        latent_size: int = 100,
        adversarial_weight: float = 1.0,
        contextual_weight: float = 50.0,
        latent_weight: float = 1.0,
        reconstruction_weight: float = 0.9,
        learning_rate: float = 2e-4,
        beta1: float = 0.5,
        beta2: float = 0.999,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        # A checkpoint is loaded without the pre-processor that the depth came from.
        depth = self.hparams["depth"] = self._depth() if depth is None else depth
        self.model = SkipGanomalyModel(depth, width, latent_size, reconstruction_weight)
        self.generator_loss = GeneratorLoss(adversarial_weight, contextual_weight, latent_weight)
        self.discriminator_loss = DiscriminatorLoss()
        self.learning_rate = learning_rate
        self.betas = (beta1, beta2)
        self.automatic_optimization = False  # two optimisers

    def _depth(self) -> int:
        if self.input_size is None:
            raise ConfigError(
                "Skip-GANomaly does not know how large its images are; give depth, which is 8 for 256×256."
            )
        return min(self.input_size).bit_length() - 1

    def configure_optimizers(self) -> list[Optimizer]:
        """Return one Adam for the generator and one for the discriminator."""
        return [
            Adam(network.parameters(), lr=self.learning_rate, betas=self.betas)
            for network in (self.model.generator, self.model.discriminator)
        ]

    def training_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> None:
        """Update the generator, then the discriminator, and log each epoch's means of the losses."""
        del args, kwargs
        generator_optimizer, discriminator_optimizer = cast("list[LightningOptimizer]", self.optimizers())
        reconstructions = self.model(batch.image)
        real_logits, real_features = self.model.discriminator(batch.image)
        fake_logits, fake_features = self.model.discriminator(reconstructions)
        parts = self.generator_loss(batch.image, reconstructions, fake_logits, real_features.detach(), fake_features)
        self._update(generator_optimizer, parts.total)

        fake_logits, _ = self.model.discriminator(reconstructions.detach())
        discriminator_loss = self.discriminator_loss(real_logits, fake_logits)
        self._update(discriminator_optimizer, discriminator_loss)
        self._log(parts, discriminator_loss, batch.batch_size)

    def _update(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        """Take one step; gradients are computed for this optimiser's network alone."""
        optimizer.zero_grad()
        self.manual_backward(loss, inputs=optimizer.param_groups[0]["params"])
        optimizer.step()

    def _log(self, parts: GeneratorLossParts, discriminator_loss: Tensor, images: int) -> None:
        losses = {
            "train/loss": parts.total + discriminator_loss,
            "train/loss_generator": parts.total,
            "train/loss_discriminator": discriminator_loss,
            "train/loss_adversarial": parts.adversarial,
            "train/loss_contextual": parts.contextual,
            "train/loss_latent": parts.latent,
        }
        detached = {name: loss.detach() for name, loss in losses.items()}
        self.log_dict(detached, on_step=False, on_epoch=True, batch_size=images)

"""The encoder-decoder as an anomalib model."""

from collections.abc import Sequence
from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import nn
from torch.optim import Adam
from torchvision.transforms.v2 import Resize

from harness.models.components.checkpoints import keep_settings_only
from harness.models.components.module import OwnModule

from .loss import LossParts, ReconstructionLoss
from .torch_model import EncoderDecoderModel


class EncoderDecoder(OwnModule):
    """The generative encoder-decoder of Mekhilef, Abbas and Hemam (paper 003).

    A noisy image goes through VGG19's first three blocks and a transformer; a decoder with three skip connections
    restores the clean image, and what it cannot restore is anomalous. The paper trains batches of 8 images of
    224×224 for up to 2000 epochs; a fifth of the training images, all normal, validates. Tables V to VIII:
    `noise=0` ("without noise"), `skips=False` ("without skip"; the scaled images' features stay).

    **The paper's noise is tuned on the test set**: every category was run with several σ and the one with the best
    performance kept (section IV-B), and only the test set has defects to measure it by. Results with a category's own
    σ are an oracle's.

    What the paper leaves open, and the assumption here:

    * VGG19 is pretrained on ImageNet; whether it is trained further is not said. It is frozen, as in the feature
      reconstruction that section III-A argues with. It is given ImageNet-normalised pixels, made of the noisy image
      inside the network; the image itself stays in [0, 1], where the decoder's sigmoid answers.
    * A block ends with its pooling: maps of 112, 56 and 28 for images of 224, where reductions by 8 and 4 leave the
      same 14×14 keys for both skip connections.
    * Tokens stand for 2×2 positions (14×14 tokens; P is not given), with learned positions, interpolated for other
      image sizes. One transformer block (the text's singular), in the order of the Vision Transformer that it cites:
      normalisation first, GELU, an MLP of 4·D.
    * Noise is added in the test too, for section III-B and the limitations argue with what it hides in the test
      phase: always the same field, so that scores are reproducible. `noise_at_test=False` trains with it only. The
      "maximum standard deviation" of eq. 4 is taken as its σ; noisy pixels are not clipped. The scaled images are
      noisy too: the text takes their features "on the original image", and clean ones would carry a defect past the
      noise.
    * The scaled images' features have their block's number of channels and are added to it, before skip connection
      and tokens. An image is scaled by 2×2 pooling, again and again; the 2×2 convolution keeps the size.
    * The attention in the skip connections is neither residual nor dropped out of. Skip connections are joined by
      concatenation, as in U-Net; the decoder's steps enlarge by the nearest neighbour and end with the blocks'
      numbers of channels, the last with half the first block's before the convolution to three colours.
    * Loss: L2 + (1 − SSIM), the sign of eq. 6 being an error, see `ReconstructionLoss`; means over pixels. SSIM's
      windows are those of its authors (11×11 Gaussian, σ 1.5), a colour at a time.
    * MSGMS: as in RIAD, four scales, on grey images. The mean filter takes at the border what there is of the image.
      L2 in eq. 7 is the squared difference, mean over colours. Image
      score: the largest of the map, as the paper says.
    * Early stopping sees nothing of the epochs before `stop_from`, whose validation loss is the first to compare with:
      it ends training after 800 + 300 epochs at the earliest. The weights of the last epoch are kept, not the best:
      nothing is said about going back.

    Validation images that are labelled anomalous (anomalib's data modules validate on test images unless told
    otherwise) do not count in `val/loss`. Without validation images the training goes on to its end.

    Args:
        backbone: a timm model name, or a network (frozen in place): a VGG or a ResNet.
        layers: where its first three blocks end; None finds them.
        pre_trained: load timm's weights when `backbone` is a name.
        noise: σ of the noise added to images in [0, 1]; 0 for none.
        noise_at_test: see above.
        skips: the three skip connections.
        dim: D, length of a token.
        patch: P, a token stands for P×P positions of the third block.
        heads: of the transformer's attention.
        depth: number of transformer blocks.
        dropout: in the transformer's attention and MLP.
        window: side of the anomaly map's mean filter, in pixels.
        learning_rate: Adam's.
        stop_from: the first epoch, counted from 1, whose validation loss early stopping looks at.
        patience: epochs without improvement that it waits.
        pre_processor: as in anomalib; by default 224×224 and no normalisation.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: when a setting is not possible.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "vgg19",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        noise: float = 0.2,
        noise_at_test: bool = True,
        skips: bool = True,
        dim: int = 512,
        patch: int = 2,
        heads: int = 4,
        depth: int = 1,
        dropout: float = 0.25,
        window: int = 21,
        learning_rate: float = 1e-4,
        stop_from: int = 800,
        patience: int = 300,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        keep_settings_only(self)
        self.model: EncoderDecoderModel = EncoderDecoderModel(
            backbone, layers, pre_trained, noise, noise_at_test, skips, dim, patch, heads, depth, dropout, window
        )
        self.loss = ReconstructionLoss()
        self.learning_rate = learning_rate
        self.stop_from = stop_from
        self.patience = patience

    def training_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the loss of a batch of normal images."""
        del args, kwargs
        parts: LossParts = self.loss(self.model(batch.image), batch.image)
        named = {"train/loss": parts.total, "train/loss_l2": parts.l2, "train/loss_ssim": parts.ssim}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=batch.batch_size)
        return parts.total

    def validation_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the batch with raw scores and maps added; its normal images count in the epoch's `val/loss`."""
        del args, kwargs
        images = batch.image
        assert images is not None
        reconstruction = self.model.reconstruct(images)
        everything = torch.ones(len(images), dtype=torch.bool, device=images.device)
        normal = everything if batch.gt_label is None else ~batch.gt_label.bool()
        if count := int(normal.sum()):
            parts: LossParts = self.loss(reconstruction[normal], images[normal])
            self.log("val/loss", parts.total, on_step=False, on_epoch=True, batch_size=count)
        return batch.update(**self.model.judge(images, reconstruction)._asdict())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam over everything that is trained."""
        return Adam((p for p in self.parameters() if p.requires_grad), lr=self.learning_rate)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Add early stopping to anomalib's callbacks."""
        callbacks = super().configure_callbacks()
        assert isinstance(callbacks, list)
        return [*callbacks, LateEarlyStopping(self.stop_from, self.patience)]

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Return a resize to 224×224, or to `image_size`; values stay in [0, 1]."""
        return PreProcessor(transform=Resize(image_size or (224, 224), antialias=True))


class LateEarlyStopping(EarlyStopping):
    """End training when `val/loss` has not fallen for `patience` epochs, looking at it from epoch `start` on.

    Args:
        start: the first epoch it looks at, counted from 1.
        patience: epochs without improvement that it waits.
    """

    def __init__(self, start: int, patience: int) -> None:
        # Not strict: there may be nothing to validate on. A loss that is not finite is an error, not an early end.
        super().__init__(
            "val/loss", patience=patience, strict=False, check_finite=False, check_on_train_epoch_end=False
        )
        self.start = start

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch's validation loss with the smallest before it."""
        if trainer.current_epoch + 1 >= self.start:
            super().on_validation_end(trainer, pl_module)

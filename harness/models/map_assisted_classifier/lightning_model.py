"""The anomaly-map assisted classifier as an anomalib model."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.optim import Adam
from torchvision.transforms.v2 import Compose, Resize

from harness.errors import ConfigError
from harness.models.components.checkpoints import keep_settings_only
from harness.models.components.classification import BINARY, ClassifierModule
from harness.models.draem.torch_model import WIDTH

from .draem import DraemTraining, build_generator
from .torch_model import Inputs, MapAssistedModel


class MapAssistedClassifier(ClassifierModule):
    """A classifier of defects helped by anomaly maps (Rožanec et al., 2022; paper 001).

    DRAEM learns from the good training images to map anomalies; a pre-trained ResNet18's average pool describes the
    image and its map; of these features the K = √N that tell most about the class (mutual information, N training
    images) go into a perceptron with layers of 512 and 100 and a softmax.

    DRAEM's training and the choice of features are a first stage, before the first epoch. The epochs are the
    perceptron's, so every one can be evaluated as a classifier. Logged are each epoch's mean `train/loss`, the
    perceptron's cross-entropy, and with every epoch the same `train/loss_draem`: the mean of DRAEM's last one. DRAEM
    trains in full precision whatever the trainer's; a fit that resumes a checkpoint has the first stage behind it.

    What the paper leaves open, and the assumption here:

    * DRAEM's "parameters recommended by" its authors: 700 epochs, batches of 8, learning rate 1e-4, a tenth of it
      after 400 and 600 epochs (4/7 and 6/7 of any other number). It is anomalib's DRAEM, which does not rotate its
      training images. With `dtd=None` synthetic anomalies are filled with Perlin noise in place of textures.
    * Image size: 256×256, DRAEM's. The map is shown to ResNet18 as a grey image, normalised as images are.
    * K: rounded down. Mutual information is scikit-learn's estimate (three neighbours). The features of image and map
      are ranked together: neither has a share of its own.
    * "Two dense layers (with 512 and 100 features)": hidden ones, K → 512 → ReLU → 100, as they cannot be the K
      inputs or the classes. A third one leads to the classes' softmax; the paper names no activation before it.
    * Features are standardised by the training images' mean and standard deviation: ResNet18 answers a map more
      weakly than an image.
    * The perceptron's training: Adam at 1e-3 without weight decay, 100 epochs, batches of 32, no class weights.
      Epochs and batches are the trainer's and the data's.
    * Its ten folds, and its experiments with a part of the defective images, are the protocol's matter, not the
      model's: what trains it is what it is given.
    * Score: 1 − p(good). The anomaly map is DRAEM's; with `inputs="image"` there is none, and `dtd` is not looked at.

    Args:
        classes: their names, `good` first; ("good", "anomalous") is the paper's binary setting.
        backbone: a timm model name, or a network (frozen in place).
        layers: whose mean over positions is the feature; `layer4`'s is ResNet18's average pool.
        pre_trained: load timm's weights when `backbone` is a name.
        inputs: `image`, `map` or `both`.
        dtd: folder of the Describable Textures Dataset, from which synthetic anomalies are made.
        draem_epochs: of the first stage.
        draem_batch_size: good images a step of it.
        draem_learning_rate: Adam's, for DRAEM.
        draem_width: base width of DRAEM's autoencoder, twice its discriminator's.
        learning_rate: Adam's, for the perceptron.
        pre_processor: as in anomalib; images stay in [0, 1].
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: when a setting is not possible.
        WeightsError: when `dtd` holds no images.
    """

    model: MapAssistedModel

    def __init__(
        self,
        classes: Sequence[str] = BINARY,
        backbone: str | nn.Module = "resnet18",
        layers: Sequence[str] = ("layer4",),
        pre_trained: bool = True,
        inputs: Inputs = "both",
        dtd: Path | str | None = None,
        draem_epochs: int = 700,
        draem_batch_size: int = 8,
        draem_learning_rate: float = 1e-4,
        draem_width: int = WIDTH,
        learning_rate: float = 1e-3,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(classes, pre_processor, post_processor, evaluator, visualizer)
        self.model = MapAssistedModel(len(self.classes), backbone, layers, pre_trained, inputs, draem_width)
        self.generator = None if inputs == "image" else build_generator(dtd)
        if min(draem_epochs, draem_batch_size) < 1:
            raise ConfigError(
                f"draem_epochs={draem_epochs} and draem_batch_size={draem_batch_size} must be 1 or more; "
                f"inputs=image does without DRAEM."
            )
        self.draem_epochs = draem_epochs
        self.draem_batch_size = draem_batch_size
        self.draem_learning_rate = draem_learning_rate
        self.learning_rate = learning_rate
        self._draem_loss = math.nan
        self._described: dict[bytes, torch.Tensor] = {}  # training features by the content of their image
        keep_settings_only(self)

    def on_fit_start(self) -> None:
        """Train DRAEM, then choose the features."""
        if self.trainer.ckpt_path is not None:
            return
        if self.model.draem is not None:
            assert self.generator is not None
            training = DraemTraining(self.model.draem, self.generator, self.draem_epochs, self.draem_learning_rate)
            self._draem_loss = training.run(_Prepared(self), self.draem_batch_size)
        self._choose_features()

    @torch.no_grad()
    def _choose_features(self) -> None:
        """Describe every training image once, and keep that for the epochs."""
        self._described, features, targets = {}, [], []
        for batch in _Prepared(self):
            assert batch.image is not None
            with self.trainer.precision_plugin.forward_context():
                described, _ = self.model.describe(batch.image)
            features.append(described)
            targets.append(self.targets(batch))
            self._described |= zip(map(_content, batch.image), described, strict=True)
        self.model.classifier.choose(torch.cat(features), torch.cat(targets))

    def training_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the perceptron's cross-entropy on a labelled batch."""
        del args, kwargs
        assert batch.image is not None
        logits = self.model.classifier(self._describe(batch.image))
        loss = F.cross_entropy(logits, self.targets(batch))
        losses = {"train/loss": loss.detach()}
        if math.isfinite(self._draem_loss):  # else there was no first stage
            losses["train/loss_draem"] = loss.new_tensor(self._draem_loss)
        self.log_dict(losses, on_step=False, on_epoch=True, batch_size=len(batch.image))
        return loss

    def _describe(self, images: torch.Tensor) -> torch.Tensor:
        """Return features N×F: the first stage's, unless augmentation has made another image of one."""
        known = [self._described.get(_content(image)) for image in images]
        if any(features is None for features in known):
            return self.model.describe(images)[0]
        return torch.stack([features for features in known if features is not None])

    def on_fit_end(self) -> None:
        """Forget what was kept for the epochs."""
        self._described = {}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the perceptron's optimiser."""
        return Adam(self.model.classifier.parameters(), lr=self.learning_rate)

    @classmethod
    def configure_pre_processor(cls, image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Return anomalib's default for DRAEM: 256×256, values left in [0, 1]."""
        return PreProcessor(transform=Compose([Resize(image_size or (256, 256), antialias=True)]))


class _Prepared:
    """The training batches as `training_step` gets them, outside of Lightning's loop; to be read many times."""

    def __init__(self, module: MapAssistedClassifier) -> None:
        self._module = module
        self._loader = module.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[ImageBatch]:
        module = self._module
        for batch in self._loader:
            moved: ImageBatch = module.trainer.strategy.batch_to_device(batch, module.device)
            if isinstance(module.pre_processor, PreProcessor):
                module.pre_processor.on_train_batch_start(module.trainer, module, moved, 0)
            yield moved


def _content(image: torch.Tensor) -> bytes:
    return hashlib.blake2b(image.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).digest()

"""EfficientAD as an anomalib model."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from anomalib.data import ImageBatch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.metrics import Evaluator
from anomalib.models import EfficientAd as AnomalibEfficientAd
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, RandomGrayscale, Resize, ToDtype, ToImage

from harness.errors import ConfigError, WeightsError
from harness.models.components.epoch_log import EpochLog
from harness.models.components.pretrained import load_pretrained

from .torch_model import EfficientAdModel

QUANTILES = (0.9, 0.995)  # become 0 and 0.1 in a map


class EfficientAd(EpochLog, AnomalibEfficientAd):  # type: ignore[misc]  # anomalib's to_onnx goes before Lightning's
    """anomalib's EfficientAD (Batzner et al., WACV 2024), which downloads nothing.

    Different from anomalib's:

    * Its maps can be normalised by quantiles over the whole training set (paper 002, section 6.4) instead of over
      validation images, which their authors take as 5 % of the training set.
    * The learning rate falls to a tenth after 95 % of the steps, as its authors and anomalib's documentation have it;
      anomalib counts epochs for steps, so that there it never falls.
    * Quantiles and the teacher's statistics are of preprocessed images, and quantiles of all values, without
      anomalib's draw of 2²⁴ of them.
    * Images may be smaller than 256 pixels, down to 128.
    * It looks at batches of its own before it trains. anomalib takes one of those that the trainer has begun, so that
      other images come first and, with loader workers, one is left out of the first epoch.

    Images are in [0, 1]; a batch is one image. Maps are normalised anew after every epoch.

    Args:
        efficient_ad_teacher: the pre-trained teacher of this size, a file of tensors that is read as the training
            starts; a checkpoint holds it.
        imagenette: images of everyday things in folders by class, on which the student is to differ.
        normalise_on: `validation` or `train`: the images of which quantiles normalise the maps.
        model_size: `small` (EfficientAD-S) or `medium` (EfficientAD-M).
        teacher_out_channels: of the teacher's features.
        lr: Adam's.
        weight_decay: Adam's.
        padding: pad in convolutions.
        pad_maps: without padding, pad the maps instead.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: for another `normalise_on`; as the training starts, when there are no validation images to
            normalise on.
        WeightsError: as the training starts, when the teacher cannot be read or does not fit, or there are no images.
    """

    def __init__(
        self,
        efficient_ad_teacher: Path | str,
        imagenette: Path | str,
        normalise_on: Literal["validation", "train"] = "validation",
        model_size: str = "small",
        teacher_out_channels: int = 384,
        lr: float = 1e-4,
        weight_decay: float = 1e-5,
        padding: bool = False,
        pad_maps: bool = True,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            imagenet_dir=imagenette,
            teacher_out_channels=teacher_out_channels,
            model_size=model_size,
            lr=lr,
            weight_decay=weight_decay,
            padding=padding,
            pad_maps=pad_maps,
            pre_processor=pre_processor,  # type: ignore[arg-type]  # any module
            post_processor=post_processor,  # type: ignore[arg-type]
            evaluator=evaluator,
            visualizer=visualizer,
        )
        if normalise_on not in ("validation", "train"):
            raise ConfigError(f"normalise_on={normalise_on} is not possible; choose validation or train.")
        self.normalise_on = normalise_on
        self.efficient_ad_teacher = Path(efficient_ad_teacher)
        self.model: EfficientAdModel = EfficientAdModel.of(self.model)

    def configure_optimizers(self) -> OptimizerLRScheduler:  # type: ignore[override]  # anomalib's returns more too
        """Return anomalib's optimiser and schedule, the latter counted in steps."""
        configured: Any = super().configure_optimizers()
        schedule = configured["lr_scheduler"]
        schedule.step_size = max(1, schedule.step_size)
        return {"optimizer": configured["optimizer"], "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Load the teacher, measure it on the training images, and open the images to differ on.

        Raises:
            ConfigError: for what EfficientAD cannot be trained with.
            WeightsError: when the teacher or the images to differ on cannot be had.
        """
        if self.normalise_on == "validation" and not self.trainer.enable_validation:
            raise ConfigError(
                "EfficientAD normalises its maps on validation images and there are none; "
                "give method.holdout=0.05, or method.normalise_on=train."
            )
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.train_batch_size != 1:
            raise ConfigError("EfficientAD trains on batches of one image; give method.batch_size=1.")
        if self.pre_processor and extract_transforms_by_type(self.pre_processor.transform, Normalize):
            raise ConfigError("EfficientAD takes images in [0, 1]; give method.normalise=false.")
        self.prepare_pretrained_model()
        self.prepare_imagenette_data(next(iter(data.train_dataloader())).image.shape[-2:])
        if not self.model.is_set(self.model.mean_std):
            self.model.mean_std.update(self.teacher_channel_mean_std(data.train_dataloader()))

    def prepare_pretrained_model(self) -> None:
        """Load the teacher from its file."""
        size = self.model_size.value
        load_pretrained(self.model.teacher, self.efficient_ad_teacher, f"EfficientAD's {size} teacher")

    def prepare_imagenette_data(self, image_size: tuple[int, int] | torch.Size) -> None:
        """Open the images to differ on: enlarged to twice the size of an input, cropped to it, some of them grey.

        Args:
            image_size: height and width of an input, for a model without a pre-processor that resizes.

        Raises:
            WeightsError: when there are no images in folders by class.
        """
        height, width = self.input_size or image_size  # anomalib gives that of an image before preprocessing
        steps = [
            Resize((2 * height, 2 * width), antialias=True),
            RandomGrayscale(p=0.3),
            CenterCrop((height, width)),
            ToImage(),
            ToDtype(torch.float32, scale=True),
        ]
        try:
            images = ImageFolder(self.imagenet_dir, Compose(steps))
        except FileNotFoundError as error:
            raise WeightsError(
                f"imagenette={self.imagenet_dir} holds no images in folders by class; give the folder of Imagenette."
            ) from error
        self.imagenet_loader = DataLoader(images, batch_size=1, shuffle=True)
        self.imagenet_iterator = iter(self.imagenet_loader)

    @torch.no_grad()
    def teacher_channel_mean_std(self, dataloader: Iterable[ImageBatch]) -> dict[str, torch.Tensor]:
        """Return mean and standard deviation (1×C×1×1) of the teacher's channels over all images."""
        count, total, squares = 0, 0.0, 0.0
        for images in map(self._prepared, dataloader):
            features = self.model.teacher(images).double()
            count += features[:, 0].numel()
            total = total + features.sum(dim=(0, 2, 3))
            squares = squares + features.square().sum(dim=(0, 2, 3))
        assert isinstance(total, torch.Tensor) and isinstance(squares, torch.Tensor)
        mean = total / count
        moments = {"mean": mean, "std": (squares / count - mean.square()).clamp_min(0).sqrt()}
        return {name: value.float()[None, :, None, None] for name, value in moments.items()}

    def on_validation_start(self) -> None:
        """Normalise the maps before they are looked at."""
        if self.normalise_on == "validation":
            self._normalise(self.trainer.datamodule.val_dataloader())  # type: ignore[attr-defined]

    def on_train_epoch_end(self) -> None:
        """Normalise the maps after an epoch."""
        if self.normalise_on == "train":
            self.eval()
            self._normalise(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
            self.train()

    def _normalise(self, batches: Iterable[ImageBatch]) -> None:
        self.model.quantiles.update(self.map_norm_quantiles(batches))

    @torch.no_grad()
    def map_norm_quantiles(self, dataloader: Iterable[ImageBatch]) -> dict[str, torch.Tensor]:
        """Return both quantiles of both maps over all good images, as `qa_st`, `qb_st`, `qa_ae` and `qb_ae`."""
        student, autoencoder = [], []
        for batch in dataloader:
            assert batch.gt_label is not None
            images = self._prepared(batch)[~batch.gt_label.bool().to(self.device)]
            if len(images):
                maps = self.model.get_maps(images, normalize=False)
                student.append(maps[0].flatten().cpu())
                autoencoder.append(maps[1].flatten().cpu())
        if not student:
            raise ConfigError(
                "EfficientAD finds no good image to normalise its maps on; give method.normalise_on=train."
            )
        result = {}
        for name, parts in (("st", student), ("ae", autoencoder)):
            values = np.quantile(torch.cat(parts).numpy(), QUANTILES)
            for key, value in zip("ab", values, strict=True):
                result[f"q{key}_{name}"] = torch.tensor(value, dtype=torch.float32, device=self.device)
        return result

    def _prepared(self, batch: ImageBatch) -> torch.Tensor:
        """Return a loader's images as the model gets them in a step."""
        assert batch.image is not None
        images = batch.image.to(self.device)
        prepared: torch.Tensor = self.pre_processor(images) if self.pre_processor else images
        return prepared

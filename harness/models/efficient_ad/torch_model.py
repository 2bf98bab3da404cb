"""The networks of EfficientAD: anomalib's, for images from 128 pixels on."""

import torch
from anomalib.data import InferenceBatch
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel as AnomalibEfficientAdModel
from anomalib.models.image.efficient_ad.torch_model import Encoder as AnomalibEncoder
from torch.nn import functional as F  # noqa: N812

from harness.errors import ConfigError

SMALLEST = 128  # pixels: below it a stage of the autoencoder's decoder has no pixel
BOTTLENECK = 8  # side of the encoder's last kernel: a 32nd of the published input size of 256


class Encoder(AnomalibEncoder):
    """anomalib's encoder; of images smaller than 256 pixels it enlarges the last map to its last kernel's size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return N×64×h×w of normalised images N×3×H×W."""
        for convolution in (self.enconv1, self.enconv2, self.enconv3, self.enconv4, self.enconv5):
            x = F.relu(convolution(x))
        size = [max(BOTTLENECK, side) for side in x.shape[-2:]]
        if list(x.shape[-2:]) != size:
            x = F.interpolate(x, size=size, mode="bilinear")
        code: torch.Tensor = self.enconv6(x)
        return code


class EfficientAdModel(AnomalibEfficientAdModel):
    """anomalib's network with a frozen teacher and an encoder for smaller images; parameters are anomalib's."""

    @classmethod
    def of(cls, model: AnomalibEfficientAdModel) -> "EfficientAdModel":
        """Turn a network of anomalib's into one of ours; weights remain."""
        model.__class__ = cls
        assert isinstance(model, cls)
        model.ae.encoder.__class__ = Encoder
        model.teacher.requires_grad_(False)
        return model

    def forward(
        self, batch: torch.Tensor, batch_imagenet: torch.Tensor | None = None, normalize: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | InferenceBatch:
        """Return the three losses in training, else scores N and maps N×1×H×W, of images N×3×H×W.

        Args:
            batch: normal images in training.
            batch_imagenet: images to differ on, in training.
            normalize: divide maps by their quantiles.
        """
        output = super().forward(batch, batch_imagenet, normalize)
        if isinstance(output, InferenceBatch):
            assert output.pred_score is not None
            return output._replace(pred_score=output.pred_score.flatten())
        return output

    def compute_student_teacher_distance(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the student's features and their squared distances to the teacher's, for images N×3×H×W.

        Raises:
            ConfigError: for images that are too small.
        """
        if min(batch.shape[-2:]) < SMALLEST:
            raise ConfigError(
                f"EfficientAD cannot look at images of {batch.shape[-2]}×{batch.shape[-1]} pixels; "
                f"give preprocess.size={SMALLEST} or more (its own is 256)."
            )
        features: torch.Tensor
        features, distances = super().compute_student_teacher_distance(batch)
        return features, distances

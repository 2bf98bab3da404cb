"""The network: pooled features of the image and of its anomaly map, and what classifies them."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from anomalib.models.components import TimmFeatureExtractor
from torch import nn

from harness.errors import ConfigError
from harness.models.components.classification import Classified
from harness.models.draem.torch_model import WIDTH, build_draem

from .classifier import InformedClassifier

Inputs = Literal["image", "map", "both"]


class PooledFeatures(nn.Module):
    """One vector an image: the mean over positions of a frozen network's layers, after ImageNet's normalisation.

    Args:
        backbone: a timm model name, or a network whose nodes `layers` name; the latter is frozen in place.
        layers: whose channels are put in a row.
        pre_trained: load timm's weights; without effect on a network that is given.

    Raises:
        ConfigError: when the backbone has no such layer.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: str | nn.Module, layers: Sequence[str], pre_trained: bool = True) -> None:
        super().__init__()
        try:
            self.extractor = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        except ValueError as error:
            raise ConfigError(f"The backbone has no layers {', '.join(layers)}: {error}") from error
        if missing := [layer for layer in layers if layer not in self.extractor.layers]:
            raise ConfigError(f"The backbone has no layer {', '.join(missing)}; choose among its own layers.")
        self.dim = sum(self.extractor.out_dims)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features N×dim of images N×3×H×W in [0, 1]."""
        maps = self.extractor((images - self.mean) / self.std).values()
        return torch.cat([x.float().mean(dim=(2, 3)) for x in maps], dim=1)


class MapAssistedModel(nn.Module):
    """Classify an image by pooled features of itself, of its DRAEM anomaly map, or of both.

    DRAEM and the feature extractor are frozen and in evaluation mode, whatever the mode of the model around them;
    DRAEM's own training switches it over and back. Height and width are multiples of 32, as DRAEM wants them.

    Args:
        classes: how many there are, the good one first.
        backbone: a timm model name, or a network (frozen in place).
        layers: whose mean over positions is the feature.
        pre_trained: load timm's weights when `backbone` is a name.
        inputs: `image`, `map` or `both`.
        draem_width: base width of DRAEM's autoencoder.

    Raises:
        ConfigError: when a setting is not possible.
    """

    def __init__(
        self,
        classes: int,
        backbone: str | nn.Module = "resnet18",
        layers: Sequence[str] = ("layer4",),
        pre_trained: bool = True,
        inputs: Inputs = "both",
        draem_width: int = WIDTH,
    ) -> None:
        super().__init__()
        if inputs not in get_args(Inputs):
            raise ConfigError(f"inputs={inputs} is not possible; choose one of {', '.join(get_args(Inputs))}.")
        self.inputs = inputs
        self.draem = None if inputs == "image" else build_draem(draem_width)
        self.pooled = PooledFeatures(backbone, layers, pre_trained)
        self.classifier = InformedClassifier(self.pooled.dim * (2 if inputs == "both" else 1), classes)
        self.train(self.training)

    def train(self, mode: bool = True) -> "MapAssistedModel":
        """Switch the classifier's mode only."""
        super().train(mode)
        for frozen in (self.draem, self.pooled):
            if frozen is not None:
                frozen.eval()
        return self

    def forward(self, images: torch.Tensor) -> Classified:
        """Return scores N, class probabilities N×C and, unless they see the image alone, DRAEM's maps N×1×H×W."""
        features, maps = self.describe(images)
        probabilities = self.classifier(features).float().softmax(dim=1)
        # The sum of the defects' is 1 − p(good) without its rounding where p(good) is close to 1.
        return Classified(probabilities[:, 1:].sum(dim=1), probabilities, maps)

    @torch.no_grad()
    def describe(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return features N×F of images N×3×H×W in [0, 1], the image's before the map's, and the maps N×1×H×W.

        The map, DRAEM's probability of an anomaly at each pixel, is shown to the extractor as a grey image.
        """
        if self.draem is None:
            return self.pooled(images), None
        maps = self.draem(images).anomaly_map.float().unsqueeze(1)
        shown = self.pooled(maps.expand(-1, 3, -1, -1))
        return (shown if self.inputs == "map" else torch.cat([self.pooled(images), shown], dim=1)), maps

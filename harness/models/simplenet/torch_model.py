"""The network of SimpleNet."""

from collections.abc import Sequence

from torch import nn

from harness.models.components.features import PatchFeatures
from harness.models.components.model import FakeFeatureModel
from harness.models.components.noise import FeatureNoise


class SimplenetModel(FakeFeatureModel):
    """Pooled patch features, a linear adapter, noise of a fixed σ behind it, a discriminator.

    Args:
        backbone: a timm model name or a network.
        layers: from the shallowest to the deepest.
        pre_trained: load timm's weights when `backbone` is a name.
        feature_dim: length of a feature vector.
        sigma: standard deviation of the noise.
        hidden: width of the discriminator.
        smoothing: σ of the anomaly map's smoothing, in input pixels.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "wide_resnet50_2",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        feature_dim: int = 1536,
        sigma: float = 0.015,
        hidden: int = 1024,
        smoothing: float = 4.0,
    ) -> None:
        features = PatchFeatures(backbone, layers, pre_trained, aggregation="pool", feature_dim=feature_dim)
        super().__init__(features, FeatureNoise(sigma, sigma), True, hidden, smoothing)

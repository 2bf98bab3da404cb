"""The network of RADL."""

from collections.abc import Sequence

from torch import nn

from harness.models.components.features import PatchFeatures
from harness.models.components.model import FakeFeatureModel
from harness.models.components.noise import FeatureNoise


class RadlModel(FakeFeatureModel):
    """Averaged patch features, noise that makes fakes of them while training, a discriminator.

    Args:
        noise: fixed noise or FDFA.
        backbone: a timm model name or a network.
        layers: from the shallowest to the deepest.
        pre_trained: load timm's weights when `backbone` is a name.
        feature_dim: length of a feature vector; None takes the sum of the layers' channels.
        adapter: SimpleNet's linear adapter before the noise.
        hidden: width of the discriminator.
        smoothing: σ of the anomaly map's smoothing, in input pixels.
    """

    def __init__(
        self,
        noise: FeatureNoise,
        backbone: str | nn.Module = "wide_resnet50_2",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        feature_dim: int | None = None,
        adapter: bool = False,
        hidden: int = 1024,
        smoothing: float = 4.0,
    ) -> None:
        features = PatchFeatures(backbone, layers, pre_trained, feature_dim=feature_dim)
        super().__init__(features, noise, adapter, hidden, smoothing)

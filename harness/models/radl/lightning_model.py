"""RADL as an anomalib model."""

from collections.abc import Sequence
from typing import Literal

from anomalib.metrics import Evaluator
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Adam

from harness.errors import ConfigError
from harness.models.components.lightning import FakeFeatureModule
from harness.models.components.noise import FeatureNoise, Granularity
from harness.models.simplenet.loss import TruncatedL1Loss

from .loss import HCELoss
from .torch_model import RadlModel


class Radl(FakeFeatureModule):
    """RADL, Reliable Anomaly Detection and Localization (Tang and Jung, IEEE Access 2023; paper 000).

    A discriminator learns to tell patch features of normal images from the same features with Gaussian noise.
    Table 1's settings are A: `loss="truncated_l1", fdfa=False`; B: `fdfa=False`; C: the defaults. The paper
    trains 40 epochs with batches of 8 at 256×256; epochs and batches are the trainer's and the data's
    (`Engine(max_epochs=40)`).

    What the paper leaves open, and the assumption here:

    * Range of σ̃ (eq. 4): none is given. [0.005, 0.025] is centred on SimpleNet's 0.015, so that settings B and C
      have the same mean noise and differ in its variety alone. It stays away from 0, where a fake is a real feature
      with the wrong label. Measured in ResNet18's features of normal bottles, where a patch lies 0.022·√dim from
      its nearest normal neighbour (median), it moves a patch by a quarter of that distance to a little more.
    * What shares a σ̃: an image, since the text argues with defects of one product that are subtle or severe.
    * Adapter: off. Section II, Fig. 3 and the list of Setting A's parts name backbone, fake features and
      discriminator only, and eq. 4 adds the noise to the averaged features. Against it: the paper's SimpleNet
      column (Table 3), run with SimpleNet's released code, which has one, equals Setting A (Table 1) to the
      digit. `adapter=True` puts it before the noise, trained by the same optimiser.
    * An epoch is one pass over the images; SimpleNet's has four. The 1000 iterations for 200 images in batches
      of 8 say so.
    * Eq. 2: the 3×3 means of both layers are concatenated, 512 + 1024 = 1536 channels.
    * Score and map: the baseline's: highest patch score; map smoothed with σ = 4.

    Args:
        backbone: a timm model name, or a network (frozen in place).
        layers: from the shallowest to the deepest.
        pre_trained: load timm's weights when `backbone` is a name.
        feature_dim: length of a feature; None takes the sum of the layers' channels (1536 in the paper).
        adapter: see above.
        fdfa: draw σ̃ from [`sigma_low`, `sigma_high`]; else the noise has the fixed `sigma`.
        sigma: standard deviation of the noise without FDFA.
        sigma_low: see above.
        sigma_high: see above.
        granularity: what shares one σ̃: `image`, `batch` or `patch`.
        loss: `hce` or `truncated_l1`.
        tau: temperature of the HCELoss.
        margin: of the truncated L1 loss, and of the shares `train/p_real` and `train/p_fake`.
        learning_rate: Adam's.
        weight_decay: Adam's.
        hidden: width of the discriminator.
        smoothing: σ of the anomaly map's smoothing, in input pixels.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: when a setting is not possible.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "wide_resnet50_2",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        feature_dim: int | None = None,
        adapter: bool = False,
        fdfa: bool = True,
        sigma: float = 0.015,
        sigma_low: float = 0.005,
        sigma_high: float = 0.025,
        granularity: Granularity = "image",
        loss: Literal["hce", "truncated_l1"] = "hce",
        tau: float = 0.5,
        margin: float = 0.5,
        learning_rate: float = 2e-4,
        weight_decay: float = 1e-5,
        hidden: int = 1024,
        smoothing: float = 4.0,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        noise = FeatureNoise(sigma_low, sigma_high, granularity) if fdfa else FeatureNoise(sigma, sigma)
        self.model = RadlModel(noise, backbone, layers, pre_trained, feature_dim, adapter, hidden, smoothing)
        self.loss = _build_loss(loss, tau, margin)
        self.margin = margin
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam over everything that is trained."""
        return Adam(self.trainable_parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)


def _build_loss(name: str, tau: float, margin: float) -> nn.Module:
    if name == "hce":
        return HCELoss(tau)
    if name == "truncated_l1":
        return TruncatedL1Loss(margin)
    raise ConfigError(f"loss={name} is not possible; choose hce or truncated_l1.")

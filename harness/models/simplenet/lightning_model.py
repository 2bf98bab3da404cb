"""SimpleNet as an anomalib model."""

from collections.abc import Sequence
from typing import Any

from anomalib.metrics import Evaluator
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Adam

from harness.models.components.lightning import FakeFeatureModule

from .loss import TruncatedL1Loss
from .torch_model import SimplenetModel


class Simplenet(FakeFeatureModule):
    """SimpleNet (Liu et al., CVPR 2023) with the settings of its released code.

    The noise is added after the adapter, and a "meta epoch" is :attr:`passes` = 4 passes over the training
    images with one evaluation after them; 40 meta epochs of batches of 8 make 160 passes. A model cannot
    repeat its data: whoever trains it gives a loader that does (as the harness) or counts 160 epochs. The
    released code reports its best meta epoch on the test set; that choice is the evaluation's, not the
    model's.

    Args:
        backbone: a timm model name, or a network (frozen in place).
        layers: from the shallowest to the deepest.
        pre_trained: load timm's weights when `backbone` is a name.
        feature_dim: length of a patch feature.
        sigma: standard deviation of the noise.
        margin: of the truncated L1 loss.
        learning_rate: Adam's, for the discriminator.
        adapter_learning_rate: AdamW's, for the adapter, with PyTorch's weight decay of 0.01.
        weight_decay: Adam's, for the discriminator.
        hidden: width of the discriminator.
        smoothing: σ of the anomaly map's smoothing, in input pixels.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.
    """

    passes = 4

    def __init__(
        self,
        backbone: str | nn.Module = "wide_resnet50_2",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        feature_dim: int = 1536,
        sigma: float = 0.015,
        margin: float = 0.5,
        learning_rate: float = 2e-4,
        adapter_learning_rate: float = 1e-4,
        weight_decay: float = 1e-5,
        hidden: int = 1024,
        smoothing: float = 4.0,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        self.model = SimplenetModel(backbone, layers, pre_trained, feature_dim, sigma, hidden, smoothing)
        self.loss = TruncatedL1Loss(margin)
        self.margin = margin
        self.learning_rate = learning_rate
        self.adapter_learning_rate = adapter_learning_rate
        self.weight_decay = weight_decay

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return one optimiser in place of the code's AdamW and Adam, which differ in how weights decay."""
        adapter: dict[str, Any] = {
            "params": self.model.adapter.parameters(),
            "lr": self.adapter_learning_rate,
            "weight_decay": 0.01,
            "decoupled_weight_decay": True,
        }
        discriminator: dict[str, Any] = {"params": self.model.discriminator.parameters()}
        return Adam([adapter, discriminator], lr=self.learning_rate, weight_decay=self.weight_decay)

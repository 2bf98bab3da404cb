"""PaDiM as an anomalib model."""

from collections.abc import Sequence

from anomalib.metrics import Evaluator
from anomalib.models import Padim as AnomalibPadim
from anomalib.visualization import Visualizer
from torch import nn

from .torch_model import PadimModel


class Padim(AnomalibPadim):
    """anomalib's PaDiM (Defard et al., ICPR 2020), accelerated: same channels for the same seed, same scores.

    Scores differ by rounding alone, and checkpoints fit both ways.

    Args:
        backbone: a timm model name, or a network.
        layers: from the shallowest to the deepest.
        pre_trained: load timm's weights when `backbone` is a name.
        n_features: how many channels are drawn; None takes the paper's 100 for resnet18 and 550 for wide_resnet50_2.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ValueError: when `n_features` is not possible.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet18",
        layers: Sequence[str] = ("layer1", "layer2", "layer3"),
        pre_trained: bool = True,
        n_features: int | None = None,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            backbone=backbone,  # type: ignore[arg-type]  # a network works too
            layers=list(layers),
            pre_trained=pre_trained,
            n_features=n_features,
            pre_processor=pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.model = PadimModel.of(self.model)

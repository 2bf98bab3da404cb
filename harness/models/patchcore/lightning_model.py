"""PatchCore as an anomalib model."""

from collections.abc import Sequence

from anomalib import PrecisionType
from anomalib.metrics import Evaluator
from anomalib.models import Patchcore as AnomalibPatchcore
from anomalib.visualization import Visualizer
from torch import nn

from .torch_model import PatchcoreModel


class Patchcore(AnomalibPatchcore):
    """anomalib's PatchCore (Roth et al., CVPR 2022), accelerated on CPUs: same bank for the same seed, same scores.

    The coreset is anomalib's pick by pick. Scores and maps differ by rounding alone, in which anomalib's are the
    less exact: it takes small distances as differences of large squares. Checkpoints fit both ways. On a GPU and in
    half precision, selection and search are anomalib's own.

    Args:
        backbone: a timm model name, or a network.
        layers: from the shallowest to the deepest.
        pre_trained: load timm's weights when `backbone` is a name.
        coreset_sampling_ratio: size of the memory bank as a share of the training patches.
        num_neighbors: how many rows of the bank weight an image's score (b in the paper).
        precision: `float32` or `float16`.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: at the end of training, when the coreset would be empty.
        ValueError: for another precision.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "wide_resnet50_2",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        coreset_sampling_ratio: float = 0.1,
        num_neighbors: int = 9,
        precision: str | PrecisionType = PrecisionType.FLOAT32,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            backbone=backbone,  # type: ignore[arg-type]  # a network works too
            layers=layers,
            pre_trained=pre_trained,
            coreset_sampling_ratio=coreset_sampling_ratio,
            num_neighbors=num_neighbors,
            precision=precision,
            pre_processor=pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.model = PatchcoreModel.of(self.model)

"""CFLOW-AD as an anomalib model."""

from collections.abc import Sequence
from typing import Any

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import Cflow as AnomalibCflow
from anomalib.visualization import Visualizer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.models.components.checkpoints import keep_settings_only

from .torch_model import CflowModel


class Cflow(AnomalibCflow):
    """anomalib's CFLOW-AD (Gudovskiy et al., WACV 2022): same training for the same seed, other scores.

    Different from anomalib's:

    * An image's score does not depend on the batch that it is scored in: see
      :class:`~harness.models.cflow.torch_model.LikelihoodMap`. Within one batch, with that batch as reference, maps
      differ from anomalib's by a constant.
    * A batch with fewer fibers than `fiber_batch_size` is a step of its own, not an error.
    * `train/loss` is the mean of a fiber, not the sum of a batch.

    Args:
        backbone: a timm model name, or a network.
        layers: from the shallowest to the deepest.
        pre_trained: load timm's weights when `backbone` is a name.
        fiber_batch_size: feature vectors a step.
        decoder: anomalib knows one kind: `freia-cflow`.
        condition_vector: length of a position's code, a multiple of 4.
        coupling_blocks: of a decoder.
        clamp_alpha: bound of a coupling's scale.
        permute_soft: rotate channels between couplings instead of permuting them.
        lr: Adam's.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "wide_resnet50_2",
        layers: Sequence[str] = ("layer2", "layer3", "layer4"),
        pre_trained: bool = True,
        fiber_batch_size: int = 64,
        decoder: str = "freia-cflow",
        condition_vector: int = 128,
        coupling_blocks: int = 8,
        clamp_alpha: float = 1.9,
        permute_soft: bool = False,
        lr: float = 1e-4,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            backbone=backbone,  # type: ignore[arg-type]  # a network works too
            layers=list(layers),
            pre_trained=pre_trained,
            fiber_batch_size=fiber_batch_size,
            decoder=decoder,
            condition_vector=condition_vector,
            coupling_blocks=coupling_blocks,
            clamp_alpha=clamp_alpha,
            permute_soft=permute_soft,
            lr=lr,
            pre_processor=pre_processor,  # type: ignore[arg-type]  # any module
            post_processor=post_processor,  # type: ignore[arg-type]
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.model: CflowModel = CflowModel.of(self.model)
        keep_settings_only(self)

    def on_train_epoch_start(self) -> None:
        """Start the search for the largest likelihoods of the epoch."""
        self.model.anomaly_map_generator.reference.fill_(-torch.inf)

    def training_step(self, batch: Batch[Any], *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Train every layer's decoder on the fibers of a batch of normal images, some fibers a step."""
        del args, kwargs
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer) and batch.image is not None
        maps = self.model.encoder(batch.image)
        losses = []
        for index, layer in enumerate(self.model.pool_layers):
            fibers, positions = self.model.fibers(maps[layer])
            for rows in self._shuffled(len(fibers)):
                log_likelihood = self.model.log_likelihood(index, fibers[rows], positions[rows])
                optimizer.zero_grad()
                self.manual_backward(-F.logsigmoid(log_likelihood).mean())
                optimizer.step()
                losses.append(self._watch(index, log_likelihood.detach()))
        loss = torch.cat(losses).mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.image))
        return {"loss": loss}

    def _shuffled(self, count: int) -> Sequence[torch.Tensor]:
        """Return row numbers in random order, `fiber_batch_size` at a time; the last take what remains."""
        size = self.model.fiber_batch_size
        whole = max(1, count // size)
        return torch.randperm(count).split([size] * (whole - 1) + [count - size * (whole - 1)])

    def _watch(self, layer: int, log_likelihood: torch.Tensor) -> torch.Tensor:
        """Keep a layer's largest log-likelihood, and return the loss of every fiber."""
        reference = self.model.anomaly_map_generator.reference
        reference[layer] = torch.maximum(reference[layer], log_likelihood.max())
        return -F.logsigmoid(log_likelihood)

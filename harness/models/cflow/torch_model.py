"""The network of CFLOW-AD."""

from collections.abc import Sequence

import torch
from anomalib.models.image.cflow.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.cflow.torch_model import CflowModel as AnomalibCflowModel
from anomalib.models.image.cflow.utils import get_logp, positional_encoding_2d
from torch.nn import functional as F  # noqa: N812


class LikelihoodMap(AnomalyMapGenerator):
    """Turn log-likelihoods into anomaly maps with a fixed reference for each layer.

    CFLOW-AD divides the likelihoods of a layer by the largest of the whole test set, anomalib by the largest of the
    batch: an image's score then depends on its neighbours. Here it is the largest of the training fibers as the
    last epoch saw them, which the training writes into `reference`.

    Args:
        layers: names of the layers.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__(pool_layers=layers)
        self.reference: torch.Tensor
        self.register_buffer("reference", torch.zeros(len(layers)))

    def compute_anomaly_map(
        self,
        distribution: list[torch.Tensor],
        height: list[int],
        width: list[int],
        image_size: tuple[int, int] | torch.Size | None,
    ) -> torch.Tensor:
        """Return N×H×W maps: the number of layers minus the sum of their relative likelihoods.

        Args:
            distribution: a layer's log-likelihoods per dimension, N·h·w, for each layer.
            height: of each layer's map.
            width: of each layer's map.
            image_size: H and W; None leaves maps, which must then have one size, as they are.
        """
        total: torch.Tensor | None = None
        for index, values in enumerate(distribution):
            relative = torch.exp(values - self.reference[index]).reshape(-1, 1, height[index], width[index])
            if image_size is not None:
                relative = F.interpolate(relative, size=image_size, mode="bilinear", align_corners=True)
            total = relative if total is None else total + relative
        assert total is not None
        return len(distribution) - total.squeeze(1)


class CflowModel(AnomalibCflowModel):
    """anomalib's network; its decoders are at hand for the training, and :class:`LikelihoodMap` makes the maps."""

    anomaly_map_generator: LikelihoodMap

    @classmethod
    def of(cls, model: AnomalibCflowModel) -> "CflowModel":
        """Turn a network of anomalib's into one of ours; weights remain."""
        model.__class__ = cls
        assert isinstance(model, cls)
        model.anomaly_map_generator = LikelihoodMap(model.pool_layers)
        return model

    def fibers(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer's N×C×h×w maps as rows N·h·w×C, and the code of each row's position, N·h·w×condition."""
        count, channels, height, width = maps.shape
        code = positional_encoding_2d(self.condition_vector, height, width).to(maps.device)
        positions = code.flatten(1).T.repeat(count, 1)
        return maps.permute(0, 2, 3, 1).reshape(-1, channels), positions

    def log_likelihood(self, layer: int, fibers: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the log-likelihood per dimension of rows of `fibers`, as :meth:`fibers` makes them."""
        latent, log_jacobian = self.decoders[layer](fibers, [positions])
        dimensions = fibers.shape[1]
        per_dimension: torch.Tensor = get_logp(dimensions, latent, log_jacobian) / dimensions
        return per_dimension

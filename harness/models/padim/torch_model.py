"""The network of PaDiM."""

import torch
from anomalib.models.image.padim.torch_model import PadimModel as AnomalibPadimModel
from torch.nn import functional as F  # noqa: N812

from harness.models.components.blur import SeparableBlur

from .gaussian import BatchedGaussian


class PadimModel(AnomalibPadimModel):
    """anomalib's network with the slow parts replaced: the embedding, the Gaussians, the blur.

    Parameters, buffers and results are anomalib's, the latter up to rounding.
    """

    @classmethod
    def of(cls, model: AnomalibPadimModel) -> "PadimModel":
        """Turn a network of anomalib's into one of ours; what it holds, drawn channels included, stays as it is.

        Building one beside it would load the weights and draw the channels twice.
        """
        model.gaussian.__class__ = BatchedGaussian
        model.anomaly_map_generator.blur.__class__ = SeparableBlur
        model.__class__ = cls
        assert isinstance(model, cls)
        return model

    def generate_embedding(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the chosen channels (B, n_features, H, W) of all layers, with the channels last in memory.

        Choosing channels before enlarging maps saves most of the work; channels last, all vectors of a position are
        rows of one matrix. An exporter cannot follow indices that depend on a buffer's values: it gets anomalib's
        own order of the same steps.
        """
        if torch.compiler.is_compiling():
            embedding: torch.Tensor = super().generate_embedding(features)
            return embedding
        largest = features[self.layers[0]]
        chosen, order = torch.sort(self.idx.to(largest.device))
        first, parts = 0, []
        for layer in self.layers:
            beyond = first + features[layer].shape[1]
            channels = chosen[(first <= chosen) & (chosen < beyond)] - first
            if len(channels):
                few = features[layer][:, channels].contiguous(memory_format=torch.channels_last)
                parts.append(F.interpolate(few, size=largest.shape[-2:], mode="nearest"))
            first = beyond
        sorted_ = torch.cat(parts, dim=1).permute(0, 2, 3, 1)
        return sorted_.gather(3, torch.argsort(order).expand(sorted_.shape)).permute(0, 3, 1, 2)

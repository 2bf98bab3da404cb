"""Patch features of a frozen backbone: what a discriminator looks at."""

from collections.abc import Sequence
from typing import Literal

import torch
from anomalib.models.components import TimmFeatureExtractor
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.errors import ConfigError

Aggregation = Literal["concat", "pool"]
POOLED_DIM = 1536  # SimpleNet's pretrain_embed_dimension and target_embed_dimension


class PatchFeatures(nn.Module):
    """Describe each 3×3 neighbourhood of a backbone's feature maps by one vector, on the first layer's grid.

    The backbone is frozen: no gradients, and always in evaluation mode, whatever the mode of the model
    around it.

    `aggregation="concat"` is RADL's (paper 000, eq. 1 and 2): the 3×3 mean of every layer, deeper layers
    enlarged bilinearly, channels concatenated (512 + 1024 = 1536 for WideResNet50 layers 2 and 3). Zeros
    beyond the border count in the mean, as in PatchCore and SimpleNet, which the paper builds on.
    `feature_dim` resizes the concatenated vector by adaptive average pooling; without it the length is the
    sum of channels.

    `aggregation="pool"` is that of SimpleNet's released code: each neighbourhood's C·3·3 values in a row,
    pooled adaptively to `feature_dim` (1536) values a layer, and the layers in a row pooled to `feature_dim`
    once more. Pooling acts on channels and resizing on positions, so the order is free: here each layer is
    pooled on its own small grid and enlarged afterwards, with a quarter of the memory for the same numbers.

    Args:
        backbone: a timm model name, or a network whose nodes `layers` name; the latter is frozen in place.
        layers: from the shallowest to the deepest.
        pre_trained: load timm's weights; without effect on a network that is given.
        aggregation: see above.
        feature_dim: length of a feature vector.

    Raises:
        ConfigError: when the backbone has no such layer.
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        layers: Sequence[str],
        pre_trained: bool = True,
        aggregation: Aggregation = "concat",
        feature_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.extractor = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        if missing := [layer for layer in layers if layer not in self.extractor.layers]:
            raise ConfigError(f"The backbone has no layer {', '.join(missing)}; choose among its own layers.")
        self.extractor.requires_grad_(False)
        self.aggregation = aggregation
        if aggregation == "pool":
            self.dim = feature_dim or POOLED_DIM
        else:
            self.dim = feature_dim or sum(self.extractor.out_dims)
        self.description = f"{aggregation} of {', '.join(map(str, layers))} to {self.dim}"  # for the feature store
        self.eval()

    def train(self, mode: bool = True) -> "PatchFeatures":
        """Stay in evaluation mode: BatchNorm statistics are part of the frozen weights."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (B, dim, H, W), channels last in memory, of images (B, 3, …).

        H×W is the grid of the first layer.
        """
        maps = list(self.extractor(images).values())
        size = maps[0].shape[-2:]
        describe = self._mean if self.aggregation == "concat" else self._pool_neighbourhood
        # With their channels last PyTorch resizes maps twenty times faster, and a discriminator reads them as rows.
        described = [describe(x).contiguous(memory_format=torch.channels_last) for x in maps]
        resized = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in described]
        features = torch.cat(resized, dim=1)
        return features if features.shape[1] == self.dim else _pool_channels(features, self.dim)

    @staticmethod
    def _mean(x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return F.avg_pool2d(x.contiguous(memory_format=torch.channels_last), kernel_size=3, stride=1, padding=1)

    def _pool_neighbourhood(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, dim, h, w)."""
        values = F.unfold(x, kernel_size=3, padding=1)  # B, C·9, h·w
        pooled = F.adaptive_avg_pool2d(values.unsqueeze(1), (self.dim, values.shape[2]))
        return pooled.squeeze(1).unflatten(2, x.shape[-2:])


def _pool_channels(x: torch.Tensor, dim: int) -> torch.Tensor:
    """(B, C, h, w) -> (B, dim, h, w), channels last: adaptive_avg_pool1d over the channels at each position."""
    rows = x.permute(0, 2, 3, 1)
    pooled = F.adaptive_avg_pool1d(rows.reshape(-1, 1, x.shape[1]), dim)
    return pooled.reshape(*rows.shape[:3], dim).permute(0, 3, 1, 2)

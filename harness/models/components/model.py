"""The network that RADL and SimpleNet have in common."""

from contextlib import AbstractContextManager, nullcontext

import torch
from anomalib.data import InferenceBatch
from torch import nn

from .discriminator import Discriminator, linear_adapter
from .features import PatchFeatures
from .map_head import MapHead
from .noise import FeatureNoise


class FakeFeatureModel(nn.Module):
    """Frozen patch features, an optional linear adapter, and a discriminator of real and noisy features.

    Under mixed precision only the backbone computes in 16 bits: in bfloat16 the noise would drown in rounding
    and scores would tie.

    Args:
        features: the frozen patch features.
        noise: makes fake features of real ones, in training only.
        adapter: put a linear projection before the noise and the discriminator.
        hidden: width of the discriminator.
        smoothing: σ of the anomaly map's smoothing, in input pixels.
    """

    def __init__(
        self, features: PatchFeatures, noise: FeatureNoise, adapter: bool, hidden: int, smoothing: float
    ) -> None:
        super().__init__()
        self.features = features
        self.noise = noise
        self.adapter = linear_adapter(features.dim) if adapter else nn.Identity()
        self.discriminator = Discriminator(features.dim, hidden)
        self.map_head = MapHead(smoothing)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | InferenceBatch:
        """Return real and fake patches' logits (B·h·w, 1) in training, else scores (B,) and maps."""
        features = self.features(images).float()
        with _full_precision(images.device.type):
            # Contiguous, so that rounding does not depend on how the features lie in memory; without a copy
            # where they come with their channels last.
            patches: torch.Tensor = self.adapter(features.flatten(2).transpose(1, 2).contiguous())  # B, h·w, dim
            if self.training:
                return self._discriminate(patches)
            logits = self.discriminator(patches.flatten(0, 1))
            scores = -logits.reshape(-1, 1, *features.shape[-2:])
            return InferenceBatch(
                pred_score=scores.amax(dim=(1, 2, 3)), anomaly_map=self.map_head(scores, images.shape[-2:])
            )

    def _discriminate(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Judge real and fake patches in one batch, so that BatchNorm sees both."""
        real, fake = self.discriminator(self.noise.beside(patches).flatten(0, 2)).chunk(2)
        return real, fake


def _full_precision(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()

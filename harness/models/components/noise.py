"""Fake features: real ones with Gaussian noise."""

from typing import Any, Literal, get_args

import torch
from torch import nn

from harness.errors import ConfigError

Granularity = Literal["image", "batch", "patch"]


class FeatureNoise(nn.Module):
    """Add noise N(0, σ̃²) with σ̃ ~ U[σ_low, σ_high] to features: FDFA (paper 000, eq. 4).

    With σ_low = σ_high it is the fixed noise of SimpleNet (eq. 3).

    Args:
        sigma_low: smallest standard deviation.
        sigma_high: largest standard deviation.
        granularity: what shares one draw of σ̃: an image's patches, the whole batch, or each patch its own.

    Raises:
        ConfigError: when the range is empty or negative, or the granularity unknown.
    """

    def __init__(self, sigma_low: float, sigma_high: float, granularity: Granularity = "image") -> None:
        super().__init__()
        if not 0 <= sigma_low <= sigma_high:
            raise ConfigError(f"Noise needs 0 <= sigma_low <= sigma_high; got {sigma_low} and {sigma_high}.")
        if granularity not in get_args(Granularity):
            raise ConfigError(f"granularity={granularity} is not possible; choose image, batch or patch.")
        self.sigma_low, self.sigma_high, self.granularity = sigma_low, sigma_high, granularity

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return noisy features; features and result are (B, patches, dim)."""
        return features + self._fill(features.new_empty(features.shape))

    def beside(self, features: torch.Tensor) -> torch.Tensor:
        """Return (2, B, patches, dim) for features (B, patches, dim): them, and what `forward` makes of them.

        Both are written into one buffer, without the temporaries of a concatenation.
        """
        both: torch.Tensor = _Beside.apply(features, self)
        return both

    def _fill(self, buffer: torch.Tensor) -> torch.Tensor:
        """Overwrite a contiguous buffer (B, patches, dim) with noise.

        Contiguous, because random numbers fall in the order of memory: the noise shall not depend on how the features
        happen to lie there. PyTorch is also six times faster at it.
        """
        return buffer.normal_().mul_(self._sigma(buffer))

    def _sigma(self, features: torch.Tensor) -> torch.Tensor | float:
        if self.sigma_low == self.sigma_high:
            return self.sigma_low
        images, patches, _ = features.shape
        shape = {"image": (images, 1, 1), "batch": (1, 1, 1), "patch": (images, patches, 1)}[self.granularity]
        uniform = torch.rand(shape, device=features.device, dtype=features.dtype)
        return self.sigma_low + (self.sigma_high - self.sigma_low) * uniform


class _Beside(torch.autograd.Function):
    """Real and noisy features; the gradient flows through both, for an adapter in front."""

    @staticmethod
    def forward(_: Any, features: torch.Tensor, noise: FeatureNoise) -> torch.Tensor:
        both = features.new_empty((2, *features.shape))
        real, fake = both.unbind()
        noise._fill(fake).add_(real.copy_(features))
        return both

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient[0] + gradient[1], None

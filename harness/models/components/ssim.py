"""Structural similarity of two images."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.errors import ConfigError

RADIUS, SIGMA = 5, 1.5  # the window of Wang et al.: 11×11, Gaussian


class SSIM(nn.Module):
    """Structural similarity (Wang et al., "Image Quality Assessment", IEEE TIP 2004; paper 003, eq. 5).

    The released settings of Wang et al.: a Gaussian window of 11×11 with σ = 1.5, population moments, K1 = 0.01 and
    K2 = 0.03, and only windows that lie inside the image. Channels are compared one by one.

    Args:
        data_range: L, the distance of the largest to the smallest possible value.
    """

    window: torch.Tensor

    def __init__(self, data_range: float = 1.0) -> None:
        super().__init__()
        self.c1, self.c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
        window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
        self.register_buffer("window", window / window.sum(), persistent=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the similarity in [-1, 1] of every window, (B, C, H - 10, W - 10), of images x and y (B, C, H, W).

        Raises:
            ConfigError: when the images are smaller than the window.
        """
        size = 2 * RADIUS + 1
        if min(x.shape[-2:]) < size:
            raise ConfigError(
                f"SSIM needs images of at least {size}×{size} pixels, not {x.shape[-2]}×{x.shape[-1]}; "
                "raise preprocess.size."
            )
        # Variances are small differences of large numbers: 16 bits would leave nothing of them.
        with torch.autocast(x.device.type, enabled=False):
            x, y = x.float(), y.float()
            mean_x, mean_y = self._mean(x), self._mean(y)
            variances = self._mean(x * x) + self._mean(y * y) - mean_x**2 - mean_y**2
            covariance = self._mean(x * y) - mean_x * mean_y
            luminance = (2 * mean_x * mean_y + self.c1) / (mean_x**2 + mean_y**2 + self.c1)
            return luminance * (2 * covariance + self.c2) / (variances + self.c2)

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh with the window, one axis after the other."""
        channels = x.shape[1]
        window = self.window.to(x.dtype).expand(channels, 1, 1, -1)
        rows = F.conv2d(x, window, groups=channels)
        return F.conv2d(rows, window.transpose(2, 3), groups=channels)

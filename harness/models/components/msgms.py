"""Gradient magnitude similarity of two images, at one scale and at several."""

import torch
from torch.nn import functional as F  # noqa: N812

C = 170 / 255**2  # the constant of Xue et al., 170 for values up to 255, for values up to 1
SCALES = 4


def gms(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the similarity of gradients in (0, 1] at every pixel, (B, 1, H, W), of images (B, C, H, W) in [0, 1].

    Xue et al., "Gradient Magnitude Similarity Deviation", IEEE TIP 2014: (2·g_x·g_y + c) / (g_x² + g_y² + c), g the
    magnitude of the Prewitt gradient of the grey image. For maps, not for losses: it has no derivative where an image
    is flat.
    """
    squared_x, squared_y = _squared_gradient(x), _squared_gradient(y)
    product = (squared_x * squared_y).sqrt()
    return (2 * product + C) / (squared_x + squared_y + C)


def msgms(x: torch.Tensor, y: torch.Tensor, scales: int = SCALES) -> torch.Tensor:
    """Return the mean over scales of `gms`, (B, 1, H, W), of images (B, C, H, W) in [0, 1].

    Zavrtanik et al., "Reconstruction by inpainting for visual anomaly detection" (RIAD), Pattern Recognition 2021: a
    pyramid of four scales, each half the one before (2×2 means), whose maps are enlarged bilinearly to the image. Its
    top must have a pixel: both sides of an image are at least 8 = 2^(scales - 1) pixels.
    """
    size = x.shape[-2:]
    total = gms(x, y)
    for _ in range(scales - 1):
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        total = total + F.interpolate(gms(x, y), size=size, mode="bilinear", align_corners=False)
    return total / scales


def _squared_gradient(images: torch.Tensor) -> torch.Tensor:
    """Return g² (B, 1, H, W); the image goes on beyond its border with its last value, which makes no edge of it."""
    grey = F.pad(images.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey[..., :, 2:] - grey[..., :, :-2]  # H + 2, W
    down = grey[..., 2:, :] - grey[..., :-2, :]  # H, W + 2
    g_x = (across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]) / 3
    g_y = (down[..., :, :-2] + down[..., :, 1:-1] + down[..., :, 2:]) / 3
    return g_x**2 + g_y**2

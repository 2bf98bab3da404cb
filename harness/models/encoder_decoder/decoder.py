"""From tokens back to an image: skip connections and the decoder."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class AttendedSkip(nn.Module):
    """A skip connection: attention with spatial reduction, a 3×3 convolution, ReLU (paper 003, eq. 1 to 3).

    As in the Pyramid Vision Transformer (Wang et al., ICCV 2021) every position asks, but keys and values come from a
    grid that is coarser by R: each R×R block of C-vectors becomes one C-vector by a linear projection (a convolution
    of that size and stride), normalised over its channels.

    Args:
        channels: of the block.
        heads: of the attention.
        reduction: R.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels, kernel_size=reduction, stride=reduction)
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.convolution = convolution(channels, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W), both sides at least R."""
        queries = features.flatten(2).transpose(1, 2)
        reduced = self.norm(self.reduce(features).flatten(2).transpose(1, 2))  # B, HW / R², C
        attended = self.attention(queries, reduced, reduced, need_weights=False)[0]
        skipped: torch.Tensor = self.convolution(attended.transpose(1, 2).unflatten(2, features.shape[-2:]))
        return skipped


class Decoder(nn.Module):
    """Enlarge the encoded map step by step, with a convolution and ReLU after each, and end in a sigmoid.

    Args:
        dim: channels of the encoded map.
        channels: of the three blocks, from the shallowest.
        skip_dims: channels that each skip connection joins to the enlarged map; 0 without them.
    """

    def __init__(self, dim: int, channels: Sequence[int], skip_dims: Sequence[int]) -> None:
        super().__init__()
        first, second, third = channels
        self.restore = convolution(dim, third)
        self.steps = nn.ModuleList(
            [
                convolution(third + skip_dims[2], third),
                convolution(third + skip_dims[1], second),
                convolution(second + skip_dims[0], first),
                convolution(first, max(first // 2, 1)),
            ]
        )
        self.image = nn.Conv2d(max(first // 2, 1), 3, kernel_size=3, padding=1)

    def forward(
        self, encoded: torch.Tensor, skips: Sequence[torch.Tensor], sizes: Sequence[torch.Size]
    ) -> torch.Tensor:
        """Return images (B, 3, H, W) in [0, 1] of encoded maps (B, dim, h, w).

        `skips` are maps of the three blocks from the shallowest, or none; `sizes` those of the blocks and the image,
        from the smallest: each twice the one before where the image's sides divide.
        """
        x = self.restore(encoded)
        deepest_first = list(reversed(skips))
        for index, (step, size) in enumerate(zip(self.steps, sizes, strict=True)):
            x = F.interpolate(x, size=size, mode="nearest")
            if index < len(deepest_first):
                x = torch.cat([x, deepest_first[index]], dim=1)
            x = step(x)
        return torch.sigmoid(self.image(x).float())


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3×3 convolution that keeps the size, and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.ReLU(inplace=True))

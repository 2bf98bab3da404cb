"""The network of the encoder-decoder."""

from collections.abc import Sequence

import torch
from anomalib.data import InferenceBatch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.errors import ConfigError
from harness.models.components.msgms import msgms

from .decoder import AttendedSkip, Decoder
from .encoder import FrozenBlocks, InputNoise, ScaledImage, TokenTransformer

SMALLEST = 32  # pixels a side: three halvings, and a reduction by 4 of what the second leaves
SKIP_HEADS = (1, 2)  # of the first and the second skip connection
SKIP_REDUCTIONS = (8, 4)


class EncoderDecoderModel(nn.Module):
    """Reconstruct an image from a noisy copy, and judge it by the difference (paper 003).

    Args:
        backbone: a timm model name, or a network (frozen in place); see `FrozenBlocks`.
        layers: where its first three blocks end; None finds them.
        pre_trained: load timm's weights when `backbone` is a name.
        noise: σ of the input noise.
        noise_at_test: add noise outside training too.
        skips: connect the blocks to the decoder.
        dim: length of a token.
        patch: a token stands for patch×patch positions of the third block.
        heads: of the transformer's attention.
        depth: number of transformer blocks.
        dropout: of the transformer.
        window: side of the mean filter of the anomaly map, odd.

    Raises:
        ConfigError: when a setting is not possible.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "vgg19",
        layers: Sequence[str] | None = None,
        pre_trained: bool = True,
        noise: float = 0.2,
        noise_at_test: bool = True,
        skips: bool = True,
        dim: int = 512,
        patch: int = 2,
        heads: int = 4,
        depth: int = 1,
        dropout: float = 0.25,
        window: int = 21,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"dim={dim} is not possible with heads={heads}; give a multiple of them.")
        if window < 1 or window % 2 == 0:
            raise ConfigError(f"window={window} is not possible; give an odd number of pixels.")
        self.noise = InputNoise(noise, noise_at_test)
        self.blocks = FrozenBlocks(backbone, layers, pre_trained)
        channels = self.blocks.channels
        self.scaled = nn.ModuleList(ScaledImage(count) for count in channels)
        self.transformer = TokenTransformer(channels[-1], dim, patch, heads, depth, dropout)
        self.skips = nn.ModuleList(_skip_connections(channels) if skips else [])
        self.decoder = Decoder(dim, channels, channels if skips else (0, 0, 0))
        self.window = window

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Return reconstructions (B, 3, H, W) in training, else scores (B,) and maps (B, 1, H, W)."""
        reconstruction = self.reconstruct(images)
        return reconstruction if self.training else self.judge(images, reconstruction)

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Return reconstructions in [0, 1] of images in [0, 1], both (B, 3, H, W).

        Raises:
            ConfigError: when the images are too small.
        """
        if min(images.shape[-2:]) < SMALLEST:
            raise ConfigError(
                f"The encoder-decoder needs images of at least {SMALLEST}×{SMALLEST} pixels, "
                f"not {images.shape[-2]}×{images.shape[-1]}; raise preprocess.size."
            )
        noisy = self.noise(images)
        features = [
            block + scaled(noisy, tuple(block.shape[-2:]))
            for block, scaled in zip(self.blocks(noisy), self.scaled, strict=True)
        ]
        encoded = self.transformer(features[-1])
        sizes = [*(x.shape[-2:] for x in reversed(features)), images.shape[-2:]]
        skipped = [skip(x) for skip, x in zip(self.skips, features, strict=False)]
        reconstruction: torch.Tensor = self.decoder(encoded, skipped, sizes)
        return reconstruction

    def judge(self, images: torch.Tensor, reconstruction: torch.Tensor) -> InferenceBatch:
        """Return maps, the filtered sum of 1 − MSGMS and L2 (eq. 7), and their largest values as scores."""
        images = images.float()
        structure = 1 - msgms(images, reconstruction)
        l2 = (images - reconstruction).square().mean(dim=1, keepdim=True)
        # The filter is linear: one pass over the sum. At the border it is the mean of the pixels that there are.
        anomaly_map = F.avg_pool2d(
            structure + l2, self.window, stride=1, padding=self.window // 2, count_include_pad=False
        )
        return InferenceBatch(pred_score=anomaly_map.amax(dim=(1, 2, 3)), anomaly_map=anomaly_map)


def _skip_connections(channels: Sequence[int]) -> list[nn.Module]:
    """The first two through attention, the third as it is."""
    settings = zip(channels[:2], SKIP_HEADS, SKIP_REDUCTIONS, strict=True)
    return [*(AttendedSkip(*setting) for setting in settings), nn.Identity()]

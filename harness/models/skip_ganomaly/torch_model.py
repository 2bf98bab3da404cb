"""The networks of Skip-GANomaly: a U-Net that reconstructs, and a discriminator that also gives features."""

from itertools import pairwise

import torch
from anomalib.data import InferenceBatch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.errors import ConfigError

WIDEST = 8  # the widths double from block to block, up to so many times the first


class SkipGanomalyModel(nn.Module):
    """Reconstruct an image, and compare it with its reconstruction in pixels and in the discriminator's features.

    Args:
        depth: how often both networks halve the image; what is no multiple of 2^depth is padded inside.
        width: channels of the first block.
        latent_size: channels of the generator's bottleneck and of the discriminator's features.
        reconstruction_weight: λ of the score; the features have 1 − λ.

    Raises:
        ConfigError: for networks of less than two blocks, or a λ outside [0, 1].
    """

    def __init__(
        self, depth: int = 8, width: int = 64, latent_size: int = 100, reconstruction_weight: float = 0.9
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ConfigError(f"depth={depth} is not possible; give at least 2, which takes images of 4 pixels a side.")
        if not 0 <= reconstruction_weight <= 1:
            raise ConfigError(f"reconstruction_weight={reconstruction_weight} is not possible; give a share.")
        self.generator = Generator(depth, width, latent_size)
        self.discriminator = Discriminator(depth, width, latent_size)
        self.reconstruction_weight = reconstruction_weight
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Return the reconstructions N×3×H×W in training, else scores N and maps N×1×H×W.

        With e the squared pixel errors and d the squared differences of the features of image and reconstruction, the
        score is λ · mean(e) + (1 − λ) · mean(d), and the map is the mean of e over the channels.
        """
        reconstructions: torch.Tensor = self.generator(images)
        if self.training:
            return reconstructions
        errors = (images.float() - reconstructions.float()).square().mean(dim=1, keepdim=True)
        _, real = self.discriminator(images)
        _, fake = self.discriminator(reconstructions)
        differences = (real.float() - fake.float()).square().mean(dim=(1, 2, 3))
        share = self.reconstruction_weight
        scores = share * errors.mean(dim=(1, 2, 3)) + (1 - share) * differences
        return InferenceBatch(pred_score=scores, anomaly_map=errors)


class Generator(nn.Module):
    """A U-Net: an encoder to the bottleneck, and a decoder that sees each of the encoder's stages again.

    The last layer is linear: a tanh could not reach the pixels of standardised images beyond ±1.

    Args:
        depth: number of blocks of encoder and decoder.
        width: channels of the first block.
        latent_size: channels of the bottleneck.
    """

    def __init__(self, depth: int, width: int, latent_size: int) -> None:
        super().__init__()
        widths = _widths(depth, width)
        self.encoder = Encoder(widths, latent_size)
        self.innermost = _up(latent_size, widths[-1])
        self.ups = nn.ModuleList(_up(2 * wide, narrow) for narrow, wide in pairwise(widths))
        self.outermost = nn.ConvTranspose2d(2 * width, 3, kernel_size=4, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """N×3×H×W -> N×3×H×W."""
        *stages, latent = self.encoder(images)
        decoded = self.innermost(latent)
        for up, stage in zip(reversed(self.ups), reversed(stages), strict=False):
            decoded = up(torch.cat((decoded, stage), dim=1))
        output: torch.Tensor = self.outermost(F.relu(torch.cat((decoded, stages[0]), dim=1)))
        return output[..., : images.shape[-2], : images.shape[-1]]


class Discriminator(nn.Module):
    """The encoder's structure with a classifier on its features (paper 004 section 3.2).

    Args:
        depth: number of blocks.
        width: channels of the first block.
        latent_size: channels of the features.
    """

    def __init__(self, depth: int, width: int, latent_size: int) -> None:
        super().__init__()
        self.encoder = Encoder(_widths(depth, width), latent_size)
        self.classifier = nn.Conv2d(latent_size, 1, kernel_size=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits N (positive: real) and features N×C×h×w of images N×3×H×W."""
        features = self.encoder(images)[-1]
        logits: torch.Tensor = self.classifier(F.leaky_relu(features, 0.2)).mean(dim=(1, 2, 3))
        return logits, features


class Encoder(nn.Module):
    """Blocks of a strided convolution, batch normalisation and LeakyReLU, and a bare convolution at the end.

    First and last block have no normalisation, as usual since DCGAN: the last one may have a single position.

    Args:
        widths: channels of every block but the last.
        latent_size: channels of the last block.
    """

    def __init__(self, widths: list[int], latent_size: int) -> None:
        super().__init__()
        first = nn.Sequential(_halve(3, widths[0]), nn.LeakyReLU(0.2))
        blocks = [
            nn.Sequential(_halve(narrow, wide), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2))
            for narrow, wide in pairwise(widths)
        ]
        self.blocks = nn.ModuleList([first, *blocks])
        self.last = _halve(widths[-1], latent_size)
        self.stride = 2 ** (len(widths) + 1)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return what every block makes of images N×3×H×W, padded at right and bottom to a multiple of the stride."""
        stages = [self._pad(images)]
        for block in [*self.blocks, self.last]:
            stages.append(block(stages[-1]))
        return stages[1:]

    def _pad(self, images: torch.Tensor) -> torch.Tensor:
        below, right = (-images.shape[-2] % self.stride, -images.shape[-1] % self.stride)
        return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def _widths(depth: int, width: int) -> list[int]:
    return [width * min(2**block, WIDEST) for block in range(depth - 1)]


def _halve(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel_size=4, stride=2, padding=1, bias=False)


def _up(channels: int, out: int) -> nn.Sequential:
    """Double the image; the activation comes first, so that skipped stages pass it too."""
    convolution = nn.ConvTranspose2d(channels, out, kernel_size=4, stride=2, padding=1, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(out))


def _initialise(module: nn.Module) -> None:
    """Draw weights as DCGAN: N(0, 0.02²) for convolutions, N(1, 0.02²) for the scale of batch normalisation."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) and module.bias is not None:
        nn.init.zeros_(module.bias)

"""What the encoder-decoder sees of an image: noise, pretrained blocks, tokens."""

from collections.abc import Sequence

import timm
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.errors import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which the pretrained blocks expect
RESNET_BLOCKS = ("act1", "layer1", "layer2")
FIELD = 256  # side of the noise that tests add, repeated in larger images
GRID = 14  # side of the grid of positions: 224 pixels, three halvings, tokens of 2×2


class InputNoise(nn.Module):
    """Add noise N(0, σ²) to images (paper 003, eq. 4): fresh in training, in evaluation always the same.

    The noise of the evaluation is one field, drawn once from a generator of its own and kept with the weights: an
    image's score depends neither on its neighbours in a batch nor on what was scored before it.

    Args:
        sigma: standard deviation, for images in [0, 1]; 0 adds nothing.
        in_evaluation: add noise outside training too.

    Raises:
        ConfigError: when σ is negative.
    """

    field: torch.Tensor

    def __init__(self, sigma: float, in_evaluation: bool) -> None:
        super().__init__()
        if sigma < 0:
            raise ConfigError(f"noise={sigma} is not possible; give a standard deviation of 0 or more.")
        self.sigma, self.in_evaluation = sigma, in_evaluation
        field = torch.randn(3, FIELD, FIELD, generator=torch.Generator().manual_seed(0))
        self.register_buffer("field", field)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return noisy images; images and result are (B, 3, H, W)."""
        if self.sigma == 0 or not (self.training or self.in_evaluation):
            return images
        if self.training:
            return images + self.sigma * torch.randn_like(images)
        height, width = images.shape[-2:]
        field = self.field.repeat(1, -(-height // FIELD), -(-width // FIELD))
        return images + self.sigma * field[:, :height, :width]


class FrozenBlocks(nn.Module):
    """The first blocks of a pretrained network, one after the other; the rest of it is not kept.

    Frozen: no gradients, and always in evaluation mode, whatever the mode of the model around it.

    Args:
        backbone: a timm model name, or a network: a VGG, or another whose children run in their order, as a ResNet's.
        layers: the children that end the blocks; None: a VGG's first three poolings, or a ResNet's `act1`, `layer1`
            and `layer2`, maps of the same three sizes.
        pre_trained: load timm's weights when `backbone` is a name.

    Raises:
        ConfigError: when the backbone has no such children.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: str | nn.Module, layers: Sequence[str] | None, pre_trained: bool) -> None:
        super().__init__()
        network = timm.create_model(backbone, pretrained=pre_trained) if isinstance(backbone, str) else backbone
        self.blocks = nn.ModuleList(_cut(network, layers))
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        self.channels = [x.shape[1] for x in self(torch.zeros(1, 3, 64, 64))]

    def train(self, mode: bool = True) -> "FrozenBlocks":
        """Stay in evaluation mode: BatchNorm statistics are part of the frozen weights."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return every block's features (B, C, h, w) of images (B, 3, H, W) in [0, 1]."""
        x, features = (images - self.mean) / self.std, []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features


def _cut(network: nn.Module, layers: Sequence[str] | None) -> list[nn.Sequential]:
    """Return the blocks that end with the given children."""
    inner = getattr(network, "features", None)
    prefix, parent = ("features.", inner) if isinstance(inner, nn.Sequential) else ("", network)
    chain = {prefix + name: child for name, child in parent.named_children()}
    names = list(chain)
    if layers is None:
        pools = [name for name, child in chain.items() if isinstance(child, nn.MaxPool2d)]
        layers = pools[:3] if len(pools) >= 3 else RESNET_BLOCKS
    ends = [names.index(layer) + 1 for layer in layers if layer in chain]
    if len(ends) != 3 or len(layers) != 3 or ends != sorted(set(ends)):
        raise ConfigError(
            f"The backbone has no three blocks that end at {', '.join(layers)}; give three of {', '.join(names)}."
        )
    children = list(chain.values())
    return [nn.Sequential(*children[a:b]) for a, b in zip([0, *ends], ends, strict=False)]


class ScaledImage(nn.Module):
    """Features of the image at a block's scale: average pooling, a 2×2 convolution, ReLU (paper 003, section III-B).

    Args:
        channels: of the block that they are added to.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, channels, kernel_size=2), nn.ReLU())

    def forward(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(B, 3, H, W) -> (B, channels, *size)."""
        # Where the sizes divide, this is 2×2 pooling as often as the block's map is half the image.
        features: torch.Tensor = self.convolution(F.adaptive_avg_pool2d(images, size))
        return features


class TokenTransformer(nn.Module):
    """Tokens of a feature map, their positions, and the transformer (paper 003, section III-A and Fig. 1).

    Args:
        channels: of the feature map.
        dim: D, length of a token.
        patch: P, a token stands for P×P positions.
        heads: of the attention.
        depth: number of transformer blocks.
        dropout: in the attention and in the MLP.
    """

    def __init__(self, channels: int, dim: int, patch: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(1, dim, GRID, GRID))
        nn.init.trunc_normal_(self.positions, std=0.02)
        blocks = [
            nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, dim, h // P, w // P)."""
        x = self.embedding(features)
        size = x.shape[-2:]
        tokens = (x + self._positions(size)).flatten(2).transpose(1, 2)  # B, N, dim
        encoded: torch.Tensor = self.blocks(tokens)
        return encoded.transpose(1, 2).unflatten(2, size)

    def _positions(self, size: torch.Size) -> torch.Tensor:
        if size == self.positions.shape[-2:]:
            return self.positions
        return F.interpolate(self.positions, size=size, mode="bilinear", align_corners=False)

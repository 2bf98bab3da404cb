"""The trained part: tells real patch features from fake ones."""

import torch
from torch import nn


class Discriminator(nn.Sequential):
    """Linear, BatchNorm, LeakyReLU, Linear, as in SimpleNet's released code (last layer without bias).

    Maps features (N, dim) to logits (N, 1): high for real (normal) features, low for fake (anomalous) ones.
    """

    def __init__(self, dim: int, hidden: int = 1024) -> None:
        super().__init__(
            nn.Linear(dim, hidden),
            nn.BatchNorm1d(hidden),
            nn.LeakyReLU(0.2, inplace=True),  # on BatchNorm's result, which nothing else needs
            nn.Linear(hidden, 1, bias=False),
        )
        self.apply(_initialise)


def linear_adapter(dim: int) -> nn.Linear:
    """Return SimpleNet's feature adapter: one linear projection of the feature space onto itself."""
    adapter = nn.Linear(dim, dim)
    _initialise(adapter)
    return adapter


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)

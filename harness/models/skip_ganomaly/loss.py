"""The two losses of Skip-GANomaly: the generator's three weighted terms, and the discriminator's two."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class GeneratorLossParts(NamedTuple):
    """The weighted terms of the generator's loss, each a scalar."""

    adversarial: torch.Tensor
    contextual: torch.Tensor
    latent: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """The scalar to minimise."""
        return self.adversarial + self.contextual + self.latent


class GeneratorLoss(nn.Module):
    """w_adv · −log D(x̂) + w_con · |x − x̂| + w_lat · (f(x) − f(x̂))², means over all elements (Akcay 2019, eq. 1 to 4).

    D is the probability of being real and f the features that the discriminator judges by.

    Args:
        adversarial_weight: w_adv (1 in paper 004, Table 9).
        contextual_weight: w_con (50).
        latent_weight: w_lat (1).
    """

    def __init__(
        self, adversarial_weight: float = 1.0, contextual_weight: float = 50.0, latent_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.adversarial_weight = adversarial_weight
        self.contextual_weight = contextual_weight
        self.latent_weight = latent_weight

    def forward(
        self,
        images: torch.Tensor,
        reconstructions: torch.Tensor,
        fake_logits: torch.Tensor,
        real_features: torch.Tensor,
        fake_features: torch.Tensor,
    ) -> GeneratorLossParts:
        """Return the weighted terms for images and reconstructions N×3×H×W, logits N and features N×C×h×w."""
        return GeneratorLossParts(
            self.adversarial_weight * F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits)),
            self.contextual_weight * F.l1_loss(reconstructions, images),
            self.latent_weight * F.mse_loss(fake_features, real_features),
        )


class DiscriminatorLoss(nn.Module):
    """−log D(x) − log(1 − D(x̂)), means over images: the discriminator's side of Akcay 2019, eq. 1."""

    def forward(self, real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of logits N of real images and N of reconstructions."""
        real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
        return real + F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))

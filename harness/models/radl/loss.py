"""The loss of RADL."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.errors import ConfigError
from harness.models.components.loss import LossParts


class HCELoss(nn.Module):
    """Hardness-aware cross-entropy (paper 000, eq. 5 to 7), the means over patches.

    The paper writes log(f/τ) and log(1 − f/τ), undefined for f > τ if f were a probability. It introduces τ
    as the temperature of a "softmax-based binary cross-entropy", so f is read as the discriminator's logit
    and the argument of the logarithm as σ(f/τ), the softmax of two classes with logits f/τ and 0. With labels
    y⁺ = 1 and y⁻ = 0:

        loss⁺ = −log σ(real/τ),    loss⁻ = −log(1 − σ(fake/τ)),    HCE = loss⁺ + loss⁻

    computed as softplus, finite for any logit; τ = 1 is plain cross-entropy, as the paper says. A τ below 1
    steepens the loss: patches on the wrong side of the boundary weigh more and those well on the right side
    less.

    Args:
        tau: temperature; 0.5 is best in Table 2.

    Raises:
        ConfigError: when τ is not positive.
    """

    def __init__(self, tau: float = 0.5) -> None:
        super().__init__()
        if tau <= 0:
            raise ConfigError(f"tau={tau} is not possible; a temperature is above 0.")
        self.tau = tau

    def forward(self, real: torch.Tensor, fake: torch.Tensor) -> LossParts:
        """Return the parts of the loss for logits of any shape."""
        return LossParts(F.softplus(-real / self.tau).mean(), F.softplus(fake / self.tau).mean())

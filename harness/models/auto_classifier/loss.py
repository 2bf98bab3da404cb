"""The loss of Auto-Classifier."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class MemberLoss(nn.Module):
    """Cross-entropy of each network, every image with the same weight."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return one loss a network for logits (networks, N, classes) and class indices (N).

        Their sum trains each network as if it were alone: they share no parameters.
        """
        return torch.stack([F.cross_entropy(of_network, targets) for of_network in logits])

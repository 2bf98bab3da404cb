"""The classifier behind the features: the most informative of them, standardised, and a multi-layer perceptron."""

import math
from typing import Any

import numpy as np
import torch
from sklearn.feature_selection import mutual_info_classif
from torch import nn
from torch.nn import functional as F  # noqa: N812

from harness.errors import TrainingError

HIDDEN = (512, 100)


class InformedClassifier(nn.Module):
    """A perceptron on the K features that tell most about the class.

    Until :meth:`choose` has seen training data these are all features as they are, and the weights are random. A state
    dict brings its own K with it.

    Args:
        features: how many there are to choose from.
        classes: how many to tell apart.
    """

    chosen: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.arange(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.first = nn.Linear(features, HIDDEN[0])
        self.second = nn.Linear(*HIDDEN)
        self.output = nn.Linear(HIDDEN[1], classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits N×C of features N×F; their softmax are the probabilities."""
        standardised = (features[:, self.chosen] - self.mean) / self.std
        logits: torch.Tensor = self.output(self.second(F.relu(self.first(standardised))))
        return logits

    def choose(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Choose the K = ⌊√N⌋ most informative of training features N×F for targets N, and start anew on them.

        The estimate of mutual information adds a little noise, from a seed that PyTorch's generator draws.

        Raises:
            TrainingError: when a feature is not finite.
        """
        if not features.isfinite().all():
            raise TrainingError("The features are not finite: check the backbone's weights or train DRAEM slower.")
        count = min(max(1, math.isqrt(len(features))), features.shape[1])
        seed = int(torch.randint(2**31, (1,)))
        values = features.cpu().double().numpy()
        information = mutual_info_classif(values, targets.cpu().numpy(), random_state=seed)
        order = np.argsort(-information, kind="stable")[:count].copy()
        self._resize(count)
        self.chosen.copy_(torch.from_numpy(order))
        best = features[:, self.chosen]
        std = best.std(dim=0, correction=0)
        self.mean.copy_(best.mean(dim=0))
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))
        for layer in (self.first, self.second, self.output):
            layer.reset_parameters()

    def _resize(self, count: int) -> None:
        """Make room for so many features; parameters stay the objects that an optimiser may know already."""
        self.chosen = self.chosen.new_zeros(count)
        self.mean, self.std = self.mean.new_zeros(count), self.std.new_ones(count)
        self.first.in_features = count
        self.first.weight.data = self.first.weight.new_zeros(HIDDEN[0], count)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        chosen = state_dict.get(f"{prefix}chosen")
        if chosen is not None and len(chosen) != len(self.chosen):
            self._resize(len(chosen))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

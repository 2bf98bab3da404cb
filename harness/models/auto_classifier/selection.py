"""Choices made on validation images: the best epoch of a network, and the best of several networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.errors import TrainingError
from harness.metrics import image_auroc

SMALLEST = 1e-7  # probability that a classifier is charged for at most: forests say 0


class Validated(NamedTuple):
    """What validation says of a classifier; better ones compare greater.

    The AUROC of the score 1 − p(good) comes first, as the metric that paper 004 (section 3.3) compares by. Good
    classifiers all reach 1 (Table 11), so the cross-entropy, here with its sign changed, breaks ties.
    """

    auroc: float
    log_likelihood: float


def validated(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> Validated:
    """Measure class probabilities (N, C), good first, on class indices (N).

    Raises:
        TrainingError: when there are not both good and defective images, or a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise TrainingError("Class probabilities are not finite: the training diverged; lower method.learning_rate.")
    anomalous = targets > 0
    if anomalous.all() or not anomalous.any():
        raise TrainingError(
            "The validation images are all good or all defective, which cannot tell a better epoch from a worse one; "
            "give more of them (method.holdout, or a protocol with validation images)."
        )
    scores = probabilities[:, 1:].sum(axis=1)
    likelihood = probabilities[np.arange(len(targets)), targets].clip(min=SMALLEST)
    return Validated(float(image_auroc(anomalous, scores)), float(np.log(likelihood).mean()))


class BestEpoch:
    """The weights that a network had after its best epoch, on the CPU; of equal epochs the earliest."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.result: Validated | None = None
        self._state: dict[str, torch.Tensor] = {}

    def offer(self, epoch: int, result: Validated, network: nn.Module) -> None:
        """Keep a copy of the network's weights when no epoch before was as good."""
        if self.result is None or result > self.result:
            self.epoch, self.result = epoch, result
            self._state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}

    def restore(self, network: nn.Module) -> None:
        """Give the network the weights of its best epoch."""
        network.load_state_dict(self._state)

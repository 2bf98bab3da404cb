"""Models that go wrong; found by `method=hungry|undecided` with `--config-dir tests/chaos/own`."""

from __future__ import annotations

from typing import Any

import torch

from harness.models.padim import Padim

_STEP = 64 * 2**20  # bytes


class Hungry(Padim):
    """Takes memory until there is no more."""

    def on_train_start(self) -> None:
        taken: list[Any] = []
        while True:
            taken.append(torch.zeros(_STEP, dtype=torch.uint8).fill_(1))


class Undecided(Padim):
    """Finds no score for an image."""

    def test_step(self, *arguments: Any, **named: Any) -> Any:
        output = super().test_step(*arguments, **named)
        output.pred_score = torch.full_like(output.pred_score, torch.nan)
        return output

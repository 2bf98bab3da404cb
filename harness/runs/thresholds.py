"""Thresholds of a run: how each is chosen, and what it does to the test images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.metrics import Confusion, confusion, f1_max_threshold, threshold_at_fpr

Scores = NDArray[np.float32]
Labels = NDArray[np.int64]
F1_TEST = "f1_test"  # as papers do: chosen on the images that it is then judged on
F1_VALIDATION = "f1_validation"
FPR_PERCENTS = (1, 5, 10)  # paper 002, section 4.2


def thresholds(
    test: tuple[Labels, Scores], validation: tuple[Labels, Scores] | None
) -> dict[str, tuple[float, Confusion]]:
    """Return every threshold that can be chosen, by its rule, with what it does to the test images.

    `f1_test` has the highest F1 score on the test images: an oracle. `f1_validation` has it on validation images of
    both kinds. `fpr_<percent>` lets at most so many of the normal validation images alarm; they are held out, for a
    memory bank scores its own training images too low.
    """
    chosen = {F1_TEST: f1_max_threshold(*test).threshold}
    if validation is not None:
        labels, scores = validation
        chosen[F1_VALIDATION] = f1_max_threshold(labels, scores).threshold
        if (normal := scores[labels == 0]).size:
            chosen |= {f"fpr_{percent}": threshold_at_fpr(normal, percent / 100) for percent in FPR_PERCENTS}
    return {rule: (value, confusion(*test, value)) for rule, value in chosen.items() if np.isfinite(value)}


def as_metrics(found: Mapping[str, tuple[float, Confusion]]) -> dict[str, float]:
    """Return them by MLflow name, `threshold/<rule>/<what>`; what is undefined is left out."""
    metrics = {
        f"threshold/{rule}/{what}": number for rule, chosen in found.items() for what, number in row(*chosen).items()
    }
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def row(value: float, counts: Confusion) -> dict[str, float]:
    """Return a threshold with its confusion matrix and rates."""
    rates = {name: getattr(counts, name) for name in ("fpr", "fnr", "precision", "recall", "f1")}
    return {"value": value} | rates | {name: float(count) for name, count in counts._asdict().items()}

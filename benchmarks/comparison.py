"""What every suite measures: one piece of work, done by the harness and by a baseline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SHARED = Path(__file__).resolve().parents[2] / "shared"  # real images and weights, where they are
BOTTLE = SHARED / "data" / "mvtec_ad" / "bottle"
WEIGHTS = SHARED / "weights" / "resnet18.safetensors"
REAL = BOTTLE.is_dir() and WEIGHTS.is_file()


@dataclass(frozen=True)
class Comparison:
    """One line of the report.

    Args:
        work: what was done, with its size: `pixel AUROC, 300 maps of 256×256`.
        baseline: what the harness is compared with: `scikit-learn`.
        ours: seconds.
        theirs: seconds; with `bound`, less than it would have taken.
        agreement: how far the two results are apart, measured in the same run.
        target: the ratio that the project asks for, if any.
        bound: whether `theirs` is a lower bound, and with it the ratio.
        note: what a reader must know: untrained weights, synthetic input.
    """

    work: str
    baseline: str
    ours: float
    theirs: float
    agreement: str
    target: float | None = None
    bound: bool = False
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster the harness is."""
        return self.theirs / self.ours


@dataclass(frozen=True)
class Duration:
    """One line of the report about work that has nothing to be compared with, but a limit.

    Args:
        work: what was done, with its size.
        ours: seconds.
        limit: seconds that the project allows, if any.
        note: what a reader must know.
    """

    work: str
    ours: float
    limit: float | None = None
    note: str = ""


def timed(work: Callable[[], T], repeats: int = 1) -> tuple[float, T]:
    """Return the least seconds of `repeats` calls, and what the last one returned."""
    best, result = float("inf"), None
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - started)
    assert result is not None
    return best, result

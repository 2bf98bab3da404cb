"""The runs that the end-to-end suites are made of: real images where they are, else toy data."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from benchmarks.comparison import SHARED
from harness.errors import HarnessError
from harness.runs.execute import execute
from harness.runs.outcome import Outcome
from harness.schema import compose

WEIGHTS = SHARED / "weights" / "resnet18.safetensors"
REAL = WEIGHTS.is_file()
SYNTHETIC = "" if REAL else "toy images, untrained ResNet18"


def configure(folder: Path, quick: bool, *overrides: str, category: str = "bottle") -> DictConfig:
    """Return a run on a real category with the real ResNet18 at 256 pixels, or a tiny one on toy data."""
    if REAL and not quick:
        place = [f"dataset.root={SHARED}/data/mvtec_ad", f"backbone.weights={WEIGHTS}", "backbone=resnet18"]
        chosen = ["dataset=folder", f"category={category}", "preprocess=resize", *place]
    else:
        chosen = ["preprocess=resize", "preprocess.size=64", f"dataset.root={folder}/toy"]
    return compose([f"tracking.directory={folder}", *chosen, *overrides])


def finish(config: DictConfig) -> Outcome:
    """Run a cell.

    Raises:
        HarnessError: when it does not finish.
    """
    outcome = execute(config)
    if outcome.status != "finished":
        raise HarnessError(f"{outcome.status}: {outcome.reason}")
    return outcome

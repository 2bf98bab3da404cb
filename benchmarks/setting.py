"""The runs that the end-to-end suites are made of: real images where they are, else toy data."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig

from benchmarks.comparison import REAL, SHARED, WEIGHTS
from harness.data.geometry import build_geometry
from harness.errors import HarnessError
from harness.features.attach import attach
from harness.features.placeholder import placeholders
from harness.identity import identify
from harness.models.adapter import build_model
from harness.runs.execute import execute
from harness.runs.outcome import Outcome
from harness.schema import compose

SYNTHETIC = "" if REAL else "toy images, untrained ResNet18"


def seed_count(quick: bool) -> int:
    """Return how many seeds a suite runs."""
    return 2 if quick else 8


def overrides(folder: Path, quick: bool, category: str = "bottle") -> list[str]:
    """Return what names a run on a real category with the real ResNet18 at 256 pixels, or a tiny one on toy data."""
    place = [f"tracking.directory={folder}", "trainer.device=cpu"]
    if quick or not REAL:
        return [*place, "preprocess=resize", "preprocess.size=64", f"dataset.root={folder}/toy"]
    data = ["dataset=folder", f"dataset.root={SHARED}/data/mvtec_ad", f"category={category}"]
    return [*place, *data, "preprocess=resize", "backbone=resnet18", f"backbone.weights={WEIGHTS}"]


def configure(folder: Path, quick: bool, *more: str, category: str = "bottle") -> DictConfig:
    """Compose such a run."""
    return compose([*overrides(folder, quick, category), *more])


def embedding(config: DictConfig) -> torch.Tensor:
    """Return what PatchCore selects its coreset from: the patches of all training images (n×d)."""
    identity = identify(config)
    images = identity.category.train
    model = build_model(config)
    geometry = build_geometry(config.preprocess)
    attach(model, config, identity.weights, images, geometry, torch.device("cpu"), "benchmark")
    model.train()
    for start in range(0, len(images), 32):
        rows = torch.arange(start, min(start + 32, len(images)))
        model.model(placeholders(rows, config.preprocess.size))
    return torch.vstack(model.model.embedding_store)


def finish(config: DictConfig) -> Outcome:
    """Run a cell.

    Raises:
        HarnessError: when it does not finish.
    """
    outcome = execute(config)
    if outcome.status != "finished":
        raise HarnessError(f"{outcome.status}: {outcome.reason}")
    return outcome

"""RADL's epochs with evaluation: stored features against computed ones, and against what the parts allow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from mlflow import MlflowClient

from benchmarks.comparison import Comparison, timed
from benchmarks.setting import SYNTHETIC, configure, finish
from harness.data.geometry import build_geometry
from harness.features.attach import attach
from harness.features.placeholder import placeholders
from harness.identity import identify
from harness.models.adapter import build_model

EPOCHS, COMPUTED_EPOCHS = 40, 3


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield RADL's forty epochs, stored against computed, with the bound of the measured parts as the target."""
    epochs, computed_epochs = (4, 2) if quick else (EPOCHS, COMPUTED_EPOCHS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = ["method=radl", "metrics.heatmaps=0"]
        computed_config = configure(
            folder, quick, *overrides, "features.store=off", f"trainer.max_epochs={computed_epochs}"
        )
        finish(configure(folder, quick, "method=padim", "features.store=off"))  # warm-up
        computed, outcome = timed(lambda: finish(computed_config))
        in_epochs = outcome.metrics["time/train"] + outcome.metrics["time/evaluation"]
        stored_config = configure(folder, quick, *overrides, f"trainer.max_epochs={epochs}")
        stored, stored_outcome = timed(lambda: finish(stored_config))
        client = MlflowClient(stored_config.tracking.uri)
        names = [name for name in outcome.metrics if name.startswith(("test/", "train/"))]
        apart = max(
            abs(_at(client, stored_outcome.run_id, name, computed_epochs - 1) - outcome.metrics[name]) for name in names
        )
        bound, parts = _bound(folder, quick, epochs)
    yield Comparison(
        f"RADL, {epochs} epochs with evaluation", "features computed in every epoch", stored,
        computed + in_epochs * (epochs / computed_epochs - 1),
        f"all {len(names)} metrics of epoch {computed_epochs - 1} within {apart:.0e}", 0.9 * bound,
        note=f"{computed_epochs} epochs measured and scaled; the target is 0.9 of the bound {bound:.2f}: {parts}. "
        + SYNTHETIC,
    )  # fmt: skip


def _at(client: MlflowClient, run_id: str, metric: str, step: int) -> float:
    return next(point.value for point in client.get_metric_history(run_id, metric) if point.step == step)


def _bound(folder: Path, quick: bool, epochs: int) -> tuple[float, str]:
    """Return the ratio if nothing but backbone and head took time, from the seconds of each, measured alone."""
    config = configure(folder, quick, "method=radl")
    identity = identify(config)
    train, test = identity.category.train, identity.category.test
    model = build_model(config)
    geometry = build_geometry(config.preprocess)
    served = attach(model, config, identity.weights, [*train, *test], geometry, torch.device("cpu"), "benchmark")
    batch = config.method.batch_size
    images = placeholders(torch.arange(batch), config.preprocess.size)
    optimiser = model.configure_optimizers()

    def step() -> bool:
        optimiser.zero_grad()
        model.loss(*model.model(images)).total.backward()
        optimiser.step()
        return True

    def infer() -> bool:
        model.eval()
        with torch.inference_mode():
            model.model(images)
        model.train()
        return True

    model.train()
    head, evaluation = timed(step, 5)[0] / batch, timed(infer, 5)[0] / batch
    backbone = served.seconds_per_image
    computed = epochs * (len(train) * (backbone + head) + len(test) * (backbone + evaluation))
    stored = (len(train) + len(test)) * backbone + epochs * (len(train) * head + len(test) * evaluation)
    parts = (
        f"backbone {1000 * backbone:.0f} ms, step {1000 * head:.0f} ms, inference {1000 * evaluation:.0f} ms an image"
    )
    return computed / stored, parts

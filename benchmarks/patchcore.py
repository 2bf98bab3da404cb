"""Eight seeds of PatchCore: the harness with everything it records, against the Engine's coreset selections alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from benchmarks.comparison import Comparison
from benchmarks.coreset import picks_lower_bound
from benchmarks.engine import engine_scores
from benchmarks.grid import auroc, compare, read_scores, run_seeds
from benchmarks.setting import SYNTHETIC, configure, finish, seed_count
from harness.data.geometry import build_geometry
from harness.data.torch_dataset import SampleDataset
from harness.identity import derive_seed, identify
from harness.runs.loaders import train_loader


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield two ratios. A run of the Engine takes minutes to hours: its coreset selection alone stands for it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        agreement, seeds = _same_scores(folder, quick), seed_count(quick)
        for ratio, target in ((0.1, 15.0),) if quick else ((0.01, 10.0), (0.1, 15.0)):
            overrides = ["method=patchcore", f"method.coreset_sampling_ratio={ratio}"]
            own = run_seeds(folder, quick, overrides)
            bound = picks_lower_bound(configure(folder, quick, *overrides), ratio)
            values = [100 * auroc(scores) for scores in own.scores]
            yield Comparison(
                f"PatchCore at ratio {ratio:g}, {seeds} seeds of one category",
                f"the coreset selections alone of {seeds} Engine runs", own.seconds, seeds * bound, agreement, target,
                bound=True, note=f"image AUROC {min(values):.2f} to {max(values):.2f} %. {SYNTHETIC}",
            )  # fmt: skip


def _same_scores(folder: Path, quick: bool) -> str:
    """Run the Engine on a run's own batches, whose order decides the coreset, and compare image by image."""
    ratio = 0.1 if quick else 0.001
    place = Path(tempfile.mkdtemp(dir=folder))
    overrides = ["method=patchcore", f"method.coreset_sampling_ratio={ratio}", f"tracking.directory={place}"]
    config = configure(folder, quick, *overrides)
    own = read_scores(place, finish(config).run_id)
    engine = engine_scores(config, place / "engine", train=_batches(config), coreset_sampling_ratio=ratio)
    return f"at ratio {ratio:g}, given the same batches, {compare([(own, engine)])}"


def _batches(config: DictConfig) -> Any:
    """Return the training batches of a run of the harness, in its order, as images."""
    identity = identify(config)
    images = SampleDataset(identity.category, identity.category.train, build_geometry(config.preprocess))
    seed = derive_seed("order", config.seed, identity.fingerprint, config.category, config.protocol.name)
    return train_loader(images, config.method.batch_size, config.method.passes, seed, workers=0)

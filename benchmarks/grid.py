"""Eight seeds end to end: the harness with everything it records, against anomalib's Engine without metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from benchmarks.comparison import Comparison, timed
from benchmarks.coreset import picks_lower_bound
from benchmarks.engine import engine_scores
from benchmarks.setting import SYNTHETIC, configure, finish
from harness.data.geometry import build_geometry
from harness.data.torch_dataset import SampleDataset
from harness.identity import derive_seed, identify
from harness.metrics import image_auroc
from harness.runs.loaders import train_loader

SEEDS = 8


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield PaDiM and PatchCore, both warmed up, against the Engine."""
    for method in (_padim, _patchcore):
        with tempfile.TemporaryDirectory() as name:
            yield from method(Path(name), quick)


def _padim(folder: Path, quick: bool) -> Iterator[Comparison]:
    overrides = ["method=padim"]
    finish(configure(folder, quick, *overrides, "seed=100", "features.store=off"))  # warm-up
    seeds = _seeds(folder, quick, overrides)
    configs = [configure(folder, quick, *overrides, f"seed={seed}") for seed in range(SEEDS)]
    engine_scores(configs[0], folder / "warm-up", n_features=100)
    theirs, found = timed(lambda: [engine_scores(c, folder / "engine", n_features=100) for c in configs])
    pairs = list(zip(seeds.scores, found, strict=True))
    ours_auroc, theirs_auroc = (
        [image_auroc(_labels(scores), scores) for scores in side] for side in zip(*pairs, strict=True)
    )
    apart = max(abs(a - b) for a, b in zip(ours_auroc, theirs_auroc, strict=True))
    yield Comparison(
        f"PaDiM, {SEEDS} seeds of one category", f"anomalib's Engine, {SEEDS} runs in a warm process",
        seeds.total, theirs, f"image AUROC per seed within {apart:.1e}; {_apart(pairs)}", 5.0, note=SYNTHETIC,
    )  # fmt: skip


def _patchcore(folder: Path, quick: bool) -> Iterator[Comparison]:
    """An Engine run takes minutes to hours: its coreset selection alone stands for it, and one at a tiny ratio runs."""
    agreement = _same_scores(folder, quick)
    for ratio, target in ((0.01, 10.0), (0.1, 15.0)):
        if quick and ratio < 0.1:
            continue
        overrides = ["method=patchcore", f"method.coreset_sampling_ratio={ratio}"]
        seeds = _seeds(folder, quick, overrides)
        bound = picks_lower_bound(configure(folder, quick, *overrides), ratio)
        yield Comparison(
            f"PatchCore at ratio {ratio:g}, {SEEDS} seeds of one category",
            f"the coreset selections alone of {SEEDS} Engine runs", seeds.total, SEEDS * bound, agreement, target,
            bound=True, note=f"image AUROC {_range(seeds.scores)} %. {SYNTHETIC}",
        )  # fmt: skip


def _same_scores(folder: Path, quick: bool) -> str:
    """Run the Engine on a run's own batches, whose order decides the coreset, and compare image by image."""
    ratio = 0.1 if quick else 0.001
    place = Path(tempfile.mkdtemp(dir=folder))
    overrides = ["method=patchcore", f"method.coreset_sampling_ratio={ratio}", f"tracking.directory={place}"]
    config = configure(folder, quick, *overrides)
    own = _scores(place, finish(config).run_id)
    engine = engine_scores(config, place / "engine", train=_batches(config), coreset_sampling_ratio=ratio)
    return f"at ratio {ratio:g}, given the same batches, {_apart([(own, engine)])}"


def _range(scores: list[pd.Series]) -> str:
    found = [100 * image_auroc(_labels(of), of) for of in scores]
    return f"{min(found):.2f} to {max(found):.2f}"


class _Seeds:
    """Eight seeds run one after the other."""

    def __init__(self, times: list[float], scores: list[pd.Series]) -> None:
        self.times, self.scores = times, scores
        self.total = sum(times)


def _seeds(folder: Path, quick: bool, overrides: list[str]) -> _Seeds:
    place = Path(tempfile.mkdtemp(dir=folder))  # a store of its own: the first seed extracts
    times, scores = [], []
    for seed in range(SEEDS):
        config = configure(folder, quick, *overrides, f"seed={seed}", f"tracking.directory={place}")
        seconds, outcome = timed(lambda config=config: finish(config))  # type: ignore[misc]
        times.append(seconds)
        scores.append(_scores(place, outcome.run_id))
    return _Seeds(times, scores)


def _batches(config: DictConfig) -> Any:
    """Return the training batches of a run of the harness, in its order, as images."""
    identity = identify(config)
    images = SampleDataset(identity.category, identity.category.train, build_geometry(config.preprocess))
    seed = derive_seed("order", config.seed, identity.fingerprint, config.category, config.protocol.name)
    return train_loader(images, config.method.batch_size, config.method.passes, seed, workers=0)


def _scores(folder: Path, run_id: str) -> pd.Series:
    (found,) = folder.rglob(f"{run_id}/**/scores.parquet")
    return pd.read_parquet(found).set_index("image")["score"]


def _labels(scores: pd.Series) -> list[bool]:
    return [not str(name).startswith("test/good/") for name in scores.index]


def _apart(pairs: list[tuple[pd.Series, pd.Series]]) -> str:
    relative = max(float(((ours - theirs[ours.index]).abs() / ours.abs()).max()) for ours, theirs in pairs)
    return f"scores within {relative:.1e} of their value"

"""Eight seeds end to end: the harness with everything it records, against anomalib's Engine without metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.models.components import KCenterGreedy
from omegaconf import DictConfig

from benchmarks.comparison import Comparison, timed
from benchmarks.engine import engine_scores
from benchmarks.setting import SYNTHETIC, configure, embedding, finish
from harness.data.geometry import build_geometry
from harness.data.torch_dataset import SampleDataset
from harness.identity import derive_seed, identify
from harness.metrics import image_auroc
from harness.runs.loaders import train_loader

SEEDS = 8
_MEASURED_PICKS = 30


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield PaDiM and PatchCore, both warmed up, against the Engine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _padim(folder, quick)
        yield from _patchcore(folder, quick)


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
    ratio = 0.1 if quick else 0.01
    overrides = ["method=patchcore", f"method.coreset_sampling_ratio={ratio}"]
    seeds = _seeds(folder, quick, overrides)
    config = configure(folder, quick, *overrides, "seed=0")
    theirs, found = timed(lambda: engine_scores(config, folder / "engine", coreset_sampling_ratio=ratio))
    same = engine_scores(config, folder / "same", train=_batches(config), coreset_sampling_ratio=ratio)
    own, other = (image_auroc(_labels(scores), scores) for scores in (seeds.scores[0], found))
    yield Comparison(
        f"PatchCore at ratio {ratio:g}, {SEEDS} seeds of one category", f"anomalib's Engine, one run × {SEEDS}",
        seeds.total, SEEDS * theirs,
        f"given the same order of images: {_apart([(seeds.scores[0], same)])}; in its own order image AUROC "
        f"{100 * other:.2f} against {100 * own:.2f} %", 10.0, note=SYNTHETIC,
    )  # fmt: skip
    if not quick:
        yield from _patchcore_default(folder)


def _patchcore_default(folder: Path) -> Iterator[Comparison]:
    """PatchCore as published; the Engine would take hours, so a few of its picks are measured."""
    overrides = ["method=patchcore"]
    seeds = _seeds(folder, False, overrides)
    picks, seconds = _picks(configure(folder, False, *overrides))
    yield Comparison(
        f"PatchCore at ratio 0.1, {SEEDS} seeds of one category", f"anomalib's coreset selection alone × {SEEDS}",
        seeds.total, SEEDS * picks * seconds, "picks equal anomalib's: see the coreset", 15.0, bound=True,
        note=f"{picks} picks of {seconds:.3f} s, the mean of {_MEASURED_PICKS}. {SYNTHETIC}",
    )  # fmt: skip


def _picks(config: DictConfig) -> tuple[int, float]:
    """Return how many picks a run's coreset has, and the seconds that one costs in anomalib's selection."""
    selection = KCenterGreedy(embedding(config), config.method.coreset_sampling_ratio)
    selection.model.fit(selection.embedding)
    selection.features = selection.model.transform(selection.embedding)

    def pick() -> bool:
        for point in range(_MEASURED_PICKS):
            selection.update_distances(point)
            selection.get_new_idx()
        return True

    return selection.coreset_size, timed(pick)[0] / _MEASURED_PICKS


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

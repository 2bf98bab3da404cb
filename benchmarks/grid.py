"""Eight seeds of PaDiM: the harness with everything it records, against anomalib's Engine without metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.comparison import Comparison, timed
from benchmarks.engine import engine_scores
from benchmarks.setting import SYNTHETIC, configure, finish, seed_count
from harness.metrics import image_auroc


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield PaDiM, both sides warmed up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = ["method=padim"]
        finish(configure(folder, quick, *overrides, "seed=100", "features.store=off"))
        own = run_seeds(folder, quick, overrides)
        configs = [configure(folder, quick, *overrides, f"seed={seed}") for seed in range(seed_count(quick))]
        engine_scores(configs[0], folder / "warm-up", n_features=100)
        theirs, found = timed(lambda: [engine_scores(c, folder / "engine", n_features=100) for c in configs])
    pairs = list(zip(own.scores, found, strict=True))
    apart = max(abs(auroc(ours) - auroc(other)) for ours, other in pairs)
    yield Comparison(
        f"PaDiM, {len(configs)} seeds of one category", f"anomalib's Engine, {len(configs)} runs in a warm process",
        own.seconds, theirs, f"image AUROC per seed within {apart:.1e}; {compare(pairs)}", 5.0, note=SYNTHETIC,
    )  # fmt: skip


@dataclass(frozen=True)
class Seeds:
    """Eight seeds run one after the other: their seconds in all, and each one's image scores by name."""

    seconds: float
    scores: list[pd.Series]


def run_seeds(folder: Path, quick: bool, overrides: list[str]) -> Seeds:
    """Run the seeds with a store of their own: the first extracts."""
    place = Path(tempfile.mkdtemp(dir=folder))
    seeds = range(seed_count(quick))
    configs = [configure(folder, quick, *overrides, f"seed={seed}", f"tracking.directory={place}") for seed in seeds]
    seconds, outcomes = timed(lambda: [finish(config) for config in configs])
    return Seeds(seconds, [read_scores(place, outcome.run_id) for outcome in outcomes])


def read_scores(folder: Path, run_id: str) -> pd.Series:
    """Return a run's image scores by name."""
    (found,) = folder.rglob(f"{run_id}/**/scores.parquet")
    return pd.read_parquet(found).set_index("image")["score"]


def auroc(scores: pd.Series) -> float:
    """Return the image AUROC of scores by name."""
    return image_auroc([not str(name).startswith("test/good/") for name in scores.index], scores)


def compare(pairs: list[tuple[pd.Series, pd.Series]]) -> str:
    """Say how far two sides' scores are apart at most."""
    relative = max(float(((ours - other[ours.index]).abs() / ours.abs()).max()) for ours, other in pairs)
    return f"scores within {relative:.1e} of their value"

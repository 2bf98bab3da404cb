"""What is compared with what, and by how much two runs differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.overview import metrics_of

MEASURED = ("time/", "speed/", "memory/", "timing/")  # never twice the same
SCORES = "scores of images"
Numbers = Mapping[str, Mapping[str, float]]  # metric -> epoch, or image -> value


@dataclass(frozen=True)
class Circumstance:
    """How a cell is run again.

    Attributes:
        name: as the table calls it.
        overrides: of the configuration.
        elsewhere: in another process than the first run.
        must_agree: whether a difference on a CPU is a fault.
    """

    name: str
    overrides: tuple[str, ...] = ()
    elsewhere: bool = False
    must_agree: bool = True

    @property
    def folder(self) -> str:
        """Name of its store's folder."""
        return self.name.replace(" ", "_")


FIRST = Circumstance("first run", ("features.store=off",))
AGAIN = Circumstance("again", ("features.store=off",))
WRITTEN = Circumstance("features written", ("features.store=disk",))
READ = Circumstance("features read", ("features.store=disk",))
LOADERS = Circumstance("2 loader workers", ("features.store=off", "trainer.workers=2"))
PROCESS = Circumstance("other process", ("features.store=off",), elsewhere=True)
AFTER = Circumstance("after another run", ("features.store=off",), elsewhere=True)
THREADS = Circumstance("2 threads", ("features.store=off", "trainer.threads=2"), elsewhere=True, must_agree=False)
COMPARED = (AGAIN, WRITTEN, READ, LOADERS, PROCESS, AFTER, THREADS)


@dataclass
class Compared:
    """A cell in one circumstance, against its first run.

    Attributes:
        differences: metric -> largest absolute difference; infinite where only one of the runs has a value.
        note: why there is nothing to compare, if so.
        failed: whether the run failed, for which `note` is the reason.
    """

    circumstance: Circumstance
    differences: dict[str, float] = field(default_factory=dict)
    note: str = ""
    failed: bool = False

    @property
    def largest(self) -> tuple[str, float]:
        """The metric that differs most, and by how much."""
        return max(self.differences.items(), key=lambda item: item[1], default=("", 0.0))

    @property
    def exact(self) -> bool:
        """Whether no value differs at all."""
        return not self.failed and self.largest[1] == 0


@dataclass
class Audited:
    """A cell in all circumstances.

    Attributes:
        device: on which it was computed, as its runs say.
    """

    name: str
    device: str = ""
    compared: dict[Circumstance, Compared] = field(default_factory=dict)

    @property
    def on_cpu(self) -> bool:
        """Whether it has to be exact."""
        return self.device.partition(":")[0] in ("cpu", "")

    @property
    def faults(self) -> list[Compared]:
        """What failed, or is not exact where it has to be."""
        return [
            one
            for circumstance, one in self.compared.items()
            if one.failed or (self.on_cpu and circumstance.must_agree and not one.exact)
        ]


def store_of(folder: Path) -> str:
    """Return the URI of the store in a folder."""
    return f"sqlite:///{folder}/mlflow.db"


def numbers(folder: Path, run_id: str) -> Numbers:
    """Return every number of a run that is to be reproduced: metrics of all epochs, and the scores of its images.

    Args:
        folder: `tracking.directory` of the run.
        run_id: MLflow's.

    Raises:
        HarnessError: when the run has left none.
    """
    found: dict[str, dict[str, float]] = {}
    for key, step, value in metrics_of(store_of(folder), run_id):
        if not key.startswith(MEASURED):
            found.setdefault(key, {})[f"epoch {step}"] = value
    for scores in folder.glob(f"artifacts/*/{run_id}/artifacts/scores.parquet"):
        found[SCORES] = _scores(scores)
    if not found:
        raise HarnessError(f"Run {run_id} has left no numbers to compare.")
    return found


def _scores(path: Path) -> dict[str, float]:
    """Return the scores, and for classifiers the probabilities, of a run's images."""
    import pandas as pd

    table = pd.read_parquet(path)
    columns = [name for name in table.columns if name == "score" or name.startswith("p_")]
    places = table["image"].astype(str) + " " + table["split"].astype(str) + " " + table["selection"].astype(str)
    return {
        f"{place} {column}": float(value)
        for column in columns
        for place, value in zip(places, table[column], strict=True)
    }


def differences(first: Numbers, other: Numbers) -> dict[str, float]:
    """Return metric -> largest absolute difference of two runs; infinite where only one of them has a value."""
    return {name: _largest(first.get(name, {}), other.get(name, {})) for name in sorted({*first, *other})}


def _largest(first: Mapping[str, float], other: Mapping[str, float]) -> float:
    if first.keys() != other.keys():
        return math.inf
    return max((_difference(value, other[place]) for place, value in first.items()), default=0.0)


def _difference(a: float, b: float) -> float:
    if a == b or (math.isnan(a) and math.isnan(b)):  # infinities too, whose difference is none
        return 0.0
    gap = abs(a - b)
    return math.inf if math.isnan(gap) else gap

"""What a store holds and what is wrong with it, read with SQLite and pyarrow: not with the code that is tested."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

EPOCHS = 2
_KINDS = ("train/", "test/image_auroc", "test/pixel_auroc", "test/aupro")  # some of what every epoch has
_TIMES = ("time/", "speed/", "memory/")


@dataclass(frozen=True)
class Row:
    """One MLflow run."""

    run_id: str
    name: str
    status: str
    start: int  # ms
    end: int | None
    folder: Path  # of its artifacts
    tags: Mapping[str, str]
    history: Mapping[str, tuple[tuple[int, float], ...]]  # metric -> (step, value), in the order of the steps

    @property
    def key(self) -> str:
        return self.tags.get("harness.run_key", "")

    @property
    def counts(self) -> bool:
        """Whether the harness takes it for a finished run."""
        return self.status == "FINISHED" and self.tags.get("harness.finished") == "true"

    @property
    def phase(self) -> str:
        """What a run that has begun was doing last, by what is in the store."""
        if "harness.finished" in self.tags:
            return "finish"
        if (self.folder / "config.yaml").exists():
            return "artifacts"
        if "harness.artifacts_bytes" in self.tags:
            return "before the artifacts"
        return "training" if self.history else "before the first epoch"

    def numbers(self) -> dict[str, float]:
        """Return the last value of every metric that two runs of one key have in common."""
        return {key: values[-1][1] for key, values in self.history.items() if not key.startswith(_TIMES)}


def rows(database: Path, served: Path | None = None) -> list[Row]:
    """Return all runs of a database; none where there is no database yet.

    Args:
        database: an SQLite file.
        served: where the server that it belongs to keeps artifacts.
    """
    if not database.exists():
        return []
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        history: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        with connection:  # one state for the three queries
            connection.execute("BEGIN")
            runs = connection.execute(
                "SELECT run_uuid, name, status, start_time, end_time, artifact_uri FROM runs"
                " WHERE lifecycle_stage = 'active' ORDER BY start_time"
            ).fetchall()
            for run, key, step, value in connection.execute("SELECT run_uuid, key, step, value FROM metrics"):
                history[run][key].append((step, value))
            for run, key, text in connection.execute("SELECT run_uuid, key, value FROM tags"):
                tags[run][key] = text
    return [
        Row(run, name, status, start, end, _folder(uri or "", served), tags[run],
            {key: tuple(sorted(points)) for key, points in history[run].items()})
        for run, name, status, start, end, uri in runs
    ]  # fmt: skip


def _folder(uri: str, served: Path | None) -> Path:
    if served is not None:
        return served / uri.removeprefix("mlflow-artifacts:/")
    return Path(uri.removeprefix("file://"))


def finished(found: list[Row]) -> dict[str, Row]:
    """Return the runs that count, by key."""
    return {row.key: row for row in found if row.counts}


def doubled(found: list[Row]) -> int:
    """Return how many runs there are that some other run of the same key makes superfluous."""
    return sum(count - 1 for count in Counter(row.key for row in found if row.counts).values())


def damaged(found: list[Row], epochs: int = EPOCHS, artifacts: bool = True) -> list[str]:
    """Return what is wrong with the runs that count: nothing of one may be missing, half or twice there."""
    wrong = []
    for row in found:
        if row.end is not None and row.end < row.start:
            wrong.append(f"{row.name} ended before it began")
        if not row.counts:
            continue
        for kind in _KINDS:
            keys = [key for key in row.history if key == kind or (kind.endswith("/") and key.startswith(kind))]
            if not keys and kind != "train/":  # a memory bank has no loss
                wrong.append(f"{row.name} has no {kind}")
            for key in keys:
                if [step for step, _ in row.history[key]] != list(range(epochs)):
                    wrong.append(f"{row.name} has {key} at {row.history[key]}")
        if artifacts:
            wrong += [f"{row.name}: {problem}" for problem in _damaged_artifacts(row.folder)]
    return wrong


def _damaged_artifacts(folder: Path) -> list[str]:
    missing = [name for name in ("config.yaml", "environment.txt", "split.csv", "thresholds.csv", "scores.parquet")
               if not (folder / name).is_file() or not (folder / name).stat().st_size]  # fmt: skip
    if missing:
        return [f"{folder} lacks {', '.join(missing)}"]
    try:
        scores = pyarrow.parquet.read_table(folder / "scores.parquet")
    except Exception as error:
        return [f"scores.parquet cannot be read ({error})"]
    return [] if scores.num_rows and {"image", "label", "score"} <= set(scores.column_names) else ["scores are missing"]


def differences(found: Mapping[str, Row], reference: Mapping[str, Row]) -> list[str]:
    """Return what the runs of two stores say differently of the same key."""
    wrong = []
    for key, row in found.items():
        if key not in reference:
            wrong.append(f"{row.name} is no run of the grid")
        elif row.numbers() != reference[key].numbers():
            ours, theirs = row.numbers(), reference[key].numbers()
            names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
            wrong.append(f"{row.name} has other numbers than an undisturbed run: {', '.join(names[:5])}")
    return wrong

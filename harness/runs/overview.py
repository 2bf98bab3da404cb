"""All runs of a store at a glance, whatever became of them: read only, by SQL where it is a database.

MLflow takes seconds to import and minutes to read ten thousand runs. A store that does not exist is empty: looking
never creates one, and takes no lock that a run may want.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.errors import TrackingError
from harness.runs.liveness import HEARTBEAT, HOST, LOCKS, is_fresh, lock_folder
from harness.store_errors import told
from harness.uri import is_database, masked, require_readable, scheme_of, sqlite_path

State = Literal["finished", "at work", "silent", "died", "failed", "pruned"]

TAGS = (
    *("method", "dataset", "category", "seed", "fold", "run_key", "images", "data_fingerprint"),
    *("finished", "pruned", "trial", "failure", "artifacts_bytes"),
    *(name.removeprefix("harness.") for name in (HOST, LOCKS, HEARTBEAT)),
)
PARAMS = ("method.epochs", "trainer.max_epochs", "preprocess.size", "timing")
LOSS, SEEN_EVERY_EPOCH = "train/loss", "test/image_auroc"
_PAGE = 1000


@dataclass
class SeenRun:
    """One MLflow run, with a run key.

    Attributes:
        experiment: MLflow's.
        status: MLflow's.
        started, ended: in seconds since the epoch; `ended` is None while it is open.
        tags: without `harness.`.
        latest: the last value of a metric and its epoch; of open runs only.
    """

    run_id: str
    experiment: str
    status: str
    started: float
    ended: float | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    latest: dict[str, tuple[float, int]] = field(default_factory=dict)
    state: State = "finished"

    @property
    def key(self) -> str:
        """The run key."""
        return self.tags["run_key"]

    @property
    def name(self) -> str:
        """What it is called: method/dataset/category/seed, and the fold where there are some."""
        parts = [self.tags.get(part, "?") for part in ("method", "dataset", "category", "seed")]
        return "/".join(parts) + (f" fold {self.tags['fold']}" if "fold" in self.tags else "")

    @property
    def epochs(self) -> int:
        """The epochs that it trains."""
        given = [self.params.get(key, "") for key in ("method.epochs", "trainer.max_epochs")]
        return min((int(value) for value in given if value.isdigit()), default=1)

    @property
    def epochs_done(self) -> int:
        """The epochs that are evaluated."""
        return max((epoch + 1 for _, epoch in self.latest.values()), default=0)

    @property
    def seconds(self) -> float:
        """How long it took, or has taken until now."""
        return max(0.0, (time.time() if self.ended is None else self.ended) - self.started)


def read(uri: str) -> list[SeenRun]:
    """Return all runs of a store that have a run key, the earliest first.

    Raises:
        TrackingError: when the store cannot be read.
    """
    require_readable(uri)
    if not exists(uri):
        return []
    try:
        runs = list(_of_database(uri) if is_database(uri) else _of_server(uri))
    except TrackingError:
        raise
    except Exception as error:  # SQLAlchemy, sqlite3, requests and MLflow each bring their own
        raise TrackingError(f"The MLflow store {masked(uri)} cannot be read {told(uri, error)}.") from error
    named = [run for run in runs if "run_key" in run.tags]
    _judge(named, uri)
    return sorted(named, key=lambda run: (run.started, run.run_id))


def exists(uri: str) -> bool:
    """Whether there is a store; a server is taken to be there."""
    return scheme_of(uri) != "sqlite" or sqlite_path(uri).is_file()


def latest_by_key(runs: Iterable[SeenRun]) -> dict[str, SeenRun]:
    """Return what counts of each run key: a finished run, else one at work, else the last one that was begun."""
    counts: dict[str, SeenRun] = {}
    order = {"finished": 2, "at work": 1}
    for run in runs:
        before = counts.get(run.key)
        if before is None or order.get(run.state, 0) >= order.get(before.state, 0):
            counts[run.key] = run
    return counts


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder, which may be changing."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            size += path.stat().st_size if path.is_file() else 0
    return size


def _of_database(uri: str) -> Iterator[SeenRun]:
    with _connected(uri) as connection:
        found: dict[str, SeenRun] = {}
        for run_id, experiment, status, start, end in connection.execute(_sql(_RUNS)):
            found[run_id] = SeenRun(run_id, experiment, status, start / 1000, None if end is None else end / 1000)
        for kind, prefix, names in (("tags", "harness.", TAGS), ("params", "", PARAMS)):
            query = _sql(_PAIRS.format(table=kind), [f"{prefix}{name}" for name in names])
            for run_id, key, value in connection.execute(query):
                if run_id in found:  # a sweep may begin runs between two queries
                    getattr(found[run_id], kind)[key.removeprefix(prefix)] = value
        for run_id, key, value, is_nan, step in connection.execute(_sql(_LATEST, [LOSS, SEEN_EVERY_EPOCH])):
            if run_id in found:
                found[run_id].latest[key] = (float("nan") if is_nan else value, step)
    yield from found.values()


_RUNS = """SELECT r.run_uuid, e.name, r.status, r.start_time, r.end_time FROM runs r
    JOIN experiments e ON e.experiment_id = r.experiment_id
    WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"""
_PAIRS = "SELECT run_uuid, key, value FROM {table} WHERE key IN :names"
_LATEST = """SELECT m.run_uuid, m.key, m.value, m.is_nan, m.step FROM latest_metrics m
    JOIN runs r ON r.run_uuid = m.run_uuid WHERE r.status = 'RUNNING' AND m.key IN :names"""


def _sql(query: str, names: list[str] | None = None) -> Any:
    from sqlalchemy import bindparam, text

    if names is None:
        return text(query)
    return text(query).bindparams(bindparam("names", names, expanding=True))


def _connected(uri: str) -> Any:
    """Open a database for reading only."""
    from sqlalchemy import create_engine

    if scheme_of(uri) != "sqlite":
        return create_engine(uri).connect()
    place = f"{sqlite_path(uri).resolve().as_uri()}?mode=ro"
    return create_engine("sqlite://", creator=lambda: sqlite3.connect(place, uri=True, timeout=30)).connect()


def _of_server(uri: str) -> Iterator[SeenRun]:
    import logging

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's own would take minutes
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    names = {found.experiment_id: found.name for found in client.search_experiments()}
    token = None
    while names:
        page = client.search_runs(list(names), max_results=_PAGE, page_token=token)
        for run in page:
            info, data, end = run.info, run.data, run.info.end_time
            seen = SeenRun(info.run_id, names[info.experiment_id], info.status, info.start_time / 1000, None)
            seen.ended = end / 1000 if end else None
            seen.tags = {name: data.tags[f"harness.{name}"] for name in TAGS if f"harness.{name}" in data.tags}
            seen.params = {name: data.params[name] for name in PARAMS if name in data.params}
            if seen.status == "RUNNING":
                for metric in {LOSS, SEEN_EVERY_EPOCH} & data.metrics.keys():
                    last = max(client.get_metric_history(info.run_id, metric), key=lambda point: point.step)
                    seen.latest[metric] = (last.value, last.step)
            yield seen
        token = page.token
        if not token:
            return


def _judge(runs: Iterable[SeenRun], uri: str) -> None:
    """Say of every run what has become of it."""
    locks = lock_folder(uri)
    name = ""
    with suppress(OSError):
        name = (locks / "name").read_text()
    held = _held(locks)
    for run in runs:
        if run.status == "RUNNING":
            run.state = _of_open(run, name, locks, held)
        elif run.status == "FINISHED" and run.tags.get("finished") == "true":
            run.state = "finished"
        elif run.status == "FAILED":
            run.state = "failed"
        else:
            run.state = "pruned" if run.tags.get("pruned") == "true" else "died"


def _of_open(run: SeenRun, name: str, locks: Path, held: set[str]) -> State:
    """Return whether an open run is at work: by its lock where it is one of these, else by its heartbeat."""
    if name and run.tags.get("locks") == name:
        lives = f"{run.key}.lock" in held or not _free(locks / f"{run.key}.lock")
        return "at work" if lives else "died"
    return "at work" if is_fresh({HEARTBEAT: run.tags.get("heartbeat", "0")}) else "silent"


def _held(locks: Path) -> set[str]:
    """Return the lock files that processes hold, as Linux lists them: to try a lock could be in a run's way."""
    by_inode: dict[int, str] = {}
    with suppress(OSError):
        by_inode = {entry.inode(): entry.name for entry in os.scandir(locks) if entry.name.endswith(".lock")}
    held = set()
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            inode = line.split()[-3].rpartition(":")[2]  # 1: FLOCK ADVISORY WRITE 123 08:01:4567 0 EOF
            if inode.isdigit() and int(inode) in by_inode:
                held.add(by_inode[int(inode)])
    return held


def _free(lock: Path) -> bool:
    """Whether a lock file is held by nobody; tried only for what is not listed as held."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return not lock.exists()
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def memory_peak(uri: str, methods: Iterable[str]) -> float | None:
    """Return the memory in MiB that runs of some methods took at most, as a local database tells; None for unknown."""
    with _connected(uri) as connection:
        peak: float | None = connection.execute(_sql(_PEAK, list(methods))).scalar()
    return peak


def metrics_of(uri: str, run_id: str) -> Iterator[tuple[str, int, float]]:
    """Yield every value of a run in a local database: metric, epoch and value."""
    with _connected(uri) as connection:
        for key, step, value, is_nan in connection.execute(_sql(_METRICS, [run_id])):
            yield key, step, float("nan") if is_nan else value


def tag_of(uri: str, run_id: str, name: str) -> str:
    """Return a tag of a run in a local database, or an empty text."""
    with _connected(uri) as connection:
        found = connection.execute(_sql(_TAG, [name]), {"run_id": run_id}).scalar()
    return str(found or "")


_PEAK = """SELECT MAX(m.value) FROM latest_metrics m
    JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'harness.method'
    WHERE m.key = 'memory/host_peak' AND t.value IN :names"""
_METRICS = "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid IN :names"
_TAG = "SELECT value FROM tags WHERE run_uuid = :run_id AND key IN :names"

"""The MLflow store: one MLflow run a run, its finish marker last, dead runs told from living ones.

Every run key has a lock file that its process holds while it works: the operating system releases it with the
process, however that ends, so a key that is free but marked as running by this host belongs to a dead run. A run of
another host, which has locks of its own unless they share a file system, is known to live by its heartbeat.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url

from harness.errors import HarnessError, TrackingError
from harness.runs.environment import machine_folder
from harness.schema import one_line
from harness.uri import masked, scrubbed

FINISHED = "harness.finished"
HOST = "harness.host"
HEARTBEAT = "harness.heartbeat"
STUDY = "harness.study"  # of a study's own run and of its trials' runs
TRIAL = "harness.trial"  # the trial's number in its study
PRUNED = "harness.pruned"
ASKED = "harness.asked"  # on a trial's run that was asked for outside its study too
ARTIFACTS = "harness.artifacts_bytes"
BEAT_SECONDS = 60.0
DEAD_SECONDS = 600.0  # without a beat, a run of another host is taken for dead
_BATCH = 100  # params an MLflow request takes


class BusyError(HarnessError):
    """A living process works on this run."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that needs no second one, with the last value of every metric."""

    run_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    only_trial: bool = False  # nobody asked for it but a study


@dataclass(frozen=True)
class PastRun:
    """A finished run, as far as it tells what another would cost."""

    method: str
    fingerprint: str
    size: str  # of the model input
    epochs: int
    images: int  # of its category; 0 where it does not tell
    timing: bool
    seconds: float  # from its start to its end
    artifacts: int  # bytes


class Store:
    """An MLflow tracking store with the harness's rules.

    Args:
        uri: MLflow tracking URI.
        directory: where the artifacts of a local database lie.

    Raises:
        TrackingError: when the store cannot be opened.
    """

    def __init__(self, uri: str, directory: Path) -> None:
        self.uri, self._directory = uri, directory
        with self._explained("opened"):
            _require_sqlite(uri)
        self._locks = _lock_folder(uri)
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingError(
                f"The folder {self._locks} cannot be written ({error.strerror}); make it writable, or change "
                "tracking.directory or tracking.uri."
            ) from error
        # A fresh SQLite file that several processes migrate at once breaks all but one of them.
        with self._explained("opened"), _impatient(), FileLock(self._locks / "store.lock"):
            _create_sqlite(uri)
            self._client = MlflowClient(tracking_uri=uri)
            self._client.search_experiments(max_results=1)

    def finished(self, run_key: str) -> FinishedRun | None:
        """Return the finished run of a key, whichever experiment ran it."""
        with self._explained("read"):
            for run in self._search(f"tags.`harness.run_key` = '{run_key}' and tags.`{FINISHED}` = 'true'"):
                if run.info.status == RunStatus.to_string(RunStatus.FINISHED):
                    only_trial = TRIAL in run.data.tags and ASKED not in run.data.tags
                    return FinishedRun(run.info.run_id, dict(run.data.metrics), only_trial)
        return None

    @contextmanager
    def claim(self, run_key: str) -> Iterator[None]:
        """Hold a run key while working on it; dead runs of the same key are closed first.

        Raises:
            BusyError: when another living process holds the key.
        """
        lock = FileLock(self._locks / f"{run_key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BusyError(f"run {run_key} is being worked on by another process") from None
        try:
            self._bury_dead(run_key)
            yield
        finally:
            lock.release()

    def start(self, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> TrackedRun:
        """Open an MLflow run with its parameters and tags.

        Raises:
            TrackingError: when the store does not take it.
        """
        with self._explained("written"):
            owned = {**tags, HOST: socket.gethostname(), HEARTBEAT: str(int(time.time()))}
            run = self._client.create_run(self._experiment_id(experiment), run_name=name, tags=owned)
            tracked = TrackedRun(self, self._client, run.info.run_id)
            try:
                entries = [Param(key, str(value)) for key, value in params.items()]
                for i in range(0, len(entries), _BATCH):
                    self._client.log_batch(run.info.run_id, params=entries[i : i + _BATCH])
            except BaseException as error:  # an interrupt too: nobody else knows of this run yet
                tracked.fail(one_line(error))
                raise
        return tracked

    def study(self, experiment: str, name: str, params: Mapping[str, Any]) -> TrackedRun:
        """Open the MLflow run of a study of that name, under which those of its trials nest: its old one, or a new one.

        It is no result: it never gets a finish marker.
        """
        condition = f"attributes.run_name = '{name}' and tags.`{STUDY}` = '{name}'"
        with FileLock(self._locks / "studies.lock"):  # two commands that begin one study: it has one run
            with self._explained("read"):
                found = [run.info.run_id for run in self._search(condition) if TRIAL not in run.data.tags]
            if not found:
                return self.start(experiment, name, params, {STUDY: name})
            with self._explained("written"):
                self._client.update_run(found[0], status=RunStatus.to_string(RunStatus.RUNNING))
        return TrackedRun(self, self._client, found[0])

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return the value of a metric at every step of a run."""
        with self._explained("read"):
            return {point.step: point.value for point in self._client.get_metric_history(run_id, metric)}

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write tags of a run, finished or not."""
        with self._explained("written"):
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _experiment_id(self, name: str) -> str:
        with FileLock(self._locks / "store.lock"):  # two processes creating one experiment: one would fail
            experiment = self._client.get_experiment_by_name(name)
            if experiment is not None:
                return str(experiment.experiment_id)
            location = None
            if self.uri.startswith("sqlite:"):
                location = (self._directory / "artifacts" / name).resolve().as_uri()
            return str(self._client.create_experiment(name, artifact_location=location))

    def _bury_dead(self, run_key: str) -> None:
        with self._explained("read"):
            running = RunStatus.to_string(RunStatus.RUNNING)
            for run in self._search(f"tags.`harness.run_key` = '{run_key}' and attributes.status = '{running}'"):
                if _lives_elsewhere(run.data.tags):
                    raise BusyError(f"run {run_key} is being worked on by {run.data.tags[HOST]}")
                self._client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))

    def _search(self, condition: str) -> Iterable[Any]:
        experiments = [e.experiment_id for e in self._client.search_experiments(ViewType.ACTIVE_ONLY)]
        return self._client.search_runs(experiments, condition) if experiments else []

    def _search_all(self, condition: str) -> Iterator[Any]:
        experiments = [e.experiment_id for e in self._client.search_experiments(ViewType.ACTIVE_ONLY)]
        token = None
        while experiments:
            page = self._client.search_runs(experiments, condition, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except HarnessError:
            raise
        except Exception as error:  # SQLAlchemy, requests, sqlite3 and MLflow each bring their own
            raise TrackingError(
                f"The MLflow store {masked(self.uri)} cannot be {verb} ({scrubbed(one_line(error))[:200]}); "
                "check tracking.uri, its server or free disk space, then run the same command again."
            ) from error


class TrackedRun:
    """One open MLflow run."""

    def __init__(self, store: Store, client: MlflowClient, run_id: str) -> None:
        self._store, self._client, self.run_id = store, client, run_id
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        """Show other hosts that this process lives; a beat that does not get through is no reason to stop a run."""
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(Exception):
                self._client.set_tag(self.run_id, HEARTBEAT, str(int(time.time())))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write metrics of one step in one request."""
        now = int(time.time() * 1000)
        entries = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        with self._store._explained("written"):
            self._client.log_batch(self.run_id, metrics=entries)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Write tags that are known only after the start."""
        self._store.tag(self.run_id, tags)

    def artifacts(self, folder: Path) -> None:
        """Copy everything in a folder to the run's artifacts."""
        with self._store._explained("written"):
            self._client.log_artifacts(self.run_id, str(folder))

    def finish(self) -> None:
        """Mark the run as finished: the last thing that is written, so that half a run is never taken for one."""
        self._ended.set()
        with self._store._explained("written"):
            self._client.set_tag(self.run_id, FINISHED, "true")
            self._client.set_terminated(self.run_id, RunStatus.to_string(RunStatus.FINISHED))

    def prune(self) -> None:
        """Mark the run as stopped on purpose: it has no result."""
        self.tag({PRUNED: "true"})
        self.end("KILLED")

    def end(self, status: str) -> None:
        """Give the run one of MLflow's final statuses, and no finish marker."""
        self._ended.set()
        with self._store._explained("written"):
            self._client.set_terminated(self.run_id, status)

    def fail(self, reason: str) -> None:
        """Mark the run as failed, with the reason; a store that is gone has nothing to be told."""
        self._ended.set()
        with suppress(Exception):
            self._client.set_tag(self.run_id, "harness.failure", reason[:5000])
            self._client.set_terminated(self.run_id, RunStatus.to_string(RunStatus.FAILED))


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def past_runs(uri: str) -> dict[str, PastRun]:
    """Return all finished runs of a store by their key; {} for one that does not exist: looking never creates it.

    Raises:
        TrackingError: when the store cannot be read.
    """
    if uri.startswith("sqlite:") and not Path(make_url(uri).database or "").is_file():
        return {}
    store = Store(uri, Path())
    with store._explained("read"):
        runs = list(store._search_all(f"tags.`{FINISHED}` = 'true' and attributes.status = 'FINISHED'"))
    return {run.data.tags["harness.run_key"]: _past(run) for run in runs if "harness.run_key" in run.data.tags}


def _past(run: Any) -> PastRun:
    tags, params = run.data.tags, run.data.params
    epochs = [params.get(key, "") for key in ("method.epochs", "trainer.max_epochs")]
    return PastRun(
        tags.get("harness.method", ""),
        tags.get("harness.data_fingerprint", ""),
        params.get("preprocess.size", ""),
        min((int(value) for value in epochs if value.isdigit()), default=1),
        int(tags.get("harness.images", 0)),
        params.get("timing") == "True",
        (run.info.end_time - run.info.start_time) / 1000,
        int(tags.get(ARTIFACTS, 0)),
    )


def _lock_folder(uri: str) -> Path:
    """Return where this host keeps the locks of a store: beside a local database, else in a folder for its URI."""
    if uri.startswith("sqlite:"):
        return Path(make_url(uri).database or "").resolve().parent / "locks"
    name = hashlib.sha256(masked(uri).encode()).hexdigest()[:16]
    return machine_folder() / name


def _lives_elsewhere(tags: Mapping[str, str]) -> bool:
    if tags.get(HOST, socket.gethostname()) == socket.gethostname():
        return False  # its lock was free
    return time.time() - float(tags.get(HEARTBEAT, 0)) < DEAD_SECONDS


def _require_sqlite(uri: str) -> None:
    """Open a local database file once: MLflow would try for minutes what cannot be opened."""
    if uri.startswith("sqlite:"):
        path = Path(make_url(uri).database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path if path.exists() else _aside(path))) as connection:
            connection.execute("SELECT name FROM sqlite_master")
        _aside(path).unlink(missing_ok=True)


def _create_sqlite(uri: str) -> None:
    """Make a new database aside and rename it: one whose migration is killed half-way could never be opened again."""
    path = Path(make_url(uri).database or "") if uri.startswith("sqlite:") else None
    if path is None or path.exists():
        return
    for leftover in path.parent.glob(f".creating-*-{path.name}*"):
        leftover.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{_aside(path)}").search_experiments(max_results=1)
    _aside(path).replace(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".creating-{os.getpid()}-{path.name}")


@contextmanager
def _impatient() -> Iterator[None]:
    """Let a server that is not there be told at once; later, in the middle of a run, MLflow's minutes are right."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ[name] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]

"""The MLflow store: one MLflow run a run, its finish marker last, dead runs told from living ones.

Every run key has a lock file that its process holds while it works, so a key that is free but marked as running by a
process that shares these locks belongs to a dead run. Hosts that share a tracking server have locks of their own: of
two that begin the same run at the same moment one gives way.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
from mlflow.tracking import MlflowClient

from harness.errors import HarnessError, TrackingError
from harness.runs import liveness
from harness.runs.liveness import HEARTBEAT, HOST, LOCKS
from harness.runs.opening import create_sqlite, require_database
from harness.runs.patience import Patience
from harness.schema import one_line
from harness.uri import is_database, scrubbed

FINISHED = "harness.finished"
STUDY = "harness.study"  # of a study's own run and of its trials' runs
TRIAL = "harness.trial"  # the trial's number in its study
PRUNED = "harness.pruned"
ASKED = "harness.asked"  # on a trial's run that was asked for outside its study too
ARTIFACTS = "harness.artifacts_bytes"
PATIENCE_SECONDS = 1800.0
_PARAMS, _METRICS = 100, 1000  # that an MLflow request takes
_SETTLE_SECONDS = 10.0  # that a rival of another host has for giving way
_RUNNING, _FINISHED, _FAILED, _KILLED = (
    RunStatus.to_string(status)
    for status in (RunStatus.RUNNING, RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)
)


class BusyError(HarnessError):
    """A living process works on this run."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that needs no second one, with the last value of every metric."""

    run_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    only_trial: bool = False  # nobody asked for it but a study


class Store:
    """An MLflow tracking store with the harness's rules.

    Args:
        uri: MLflow tracking URI.
        directory: where the artifacts of a local database lie.
        patience: seconds that a store which is away is waited for; one that cannot be opened at all is told at once.

    Raises:
        TrackingError: when the store cannot be opened.
    """

    def __init__(self, uri: str, directory: Path, patience: float = PATIENCE_SECONDS) -> None:
        self.uri, self._directory = uri, directory
        self.patience = Patience(uri, patience)
        with self.patience.explaining("opened"):
            require_database(uri)
        self._locks = liveness.lock_folder(uri)
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            self._lock_name = liveness.name_of(self._locks)
        except OSError as error:
            raise TrackingError(
                f"The folder {self._locks} cannot be written ({error.strerror}); make it writable, or change "
                "tracking.directory or tracking.uri."
            ) from error
        # A fresh SQLite file that several processes migrate at once breaks all but one of them.
        with self.patience.explaining("opened"), FileLock(self._locks / "store.lock"):
            create_sqlite(uri)
            self._client = MlflowClient(tracking_uri=uri)
            self._client.search_experiments(max_results=1)

    def finished(self, run_key: str) -> FinishedRun | None:
        """Return the finished run of a key, whichever experiment ran it."""
        condition = f"tags.`harness.run_key` = '{run_key}' and tags.`{FINISHED}` = 'true'"
        for run in self.patience.insist("read", lambda: self._search(condition)):
            if run.info.status == _FINISHED:
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
            BusyError: when another host has begun the same run at the same moment.
        """
        own = {**tags, HOST: socket.gethostname(), LOCKS: self._lock_name, HEARTBEAT: str(int(time.time()))}
        experiment_id = self.patience.insist("written", lambda: self._experiment_id(experiment))
        run = self.patience.insist("written", lambda: self._client.create_run(experiment_id, run_name=name, tags=own))
        tracked = TrackedRun(self, self._client, run.info.run_id, run.info.start_time)
        try:
            if run_key := tags.get("harness.run_key"):
                self._settle(run_key, run.info.run_id)
            tracked.params(params)
        except BusyError:
            tracked.end(_KILLED)
            raise
        except BaseException as error:  # an interrupt too: nobody else knows of this run yet
            tracked.fail(scrubbed(one_line(error)))
            raise
        return tracked

    def study(self, experiment: str, name: str, params: Mapping[str, Any]) -> TrackedRun:
        """Open the MLflow run of a study of that name, under which those of its trials nest: its old one, or a new one.

        It is no result: it never gets a finish marker.
        """
        condition = f"attributes.run_name = '{name}' and tags.`{STUDY}` = '{name}'"
        with FileLock(self._locks / "studies.lock"):  # two commands that begin one study: it has one run
            runs = self.patience.insist("read", lambda: self._search(condition))
            found = [run.info for run in runs if TRIAL not in run.data.tags]
            if not found:
                return self.start(experiment, name, params, {STUDY: name})
            run_id = found[0].run_id
            self.patience.insist("written", lambda: self._client.update_run(run_id, status=_RUNNING))
        return TrackedRun(self, self._client, run_id, found[0].start_time)

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return the value of a metric at every step of a run."""
        points = self.patience.insist("read", lambda: self._client.get_metric_history(run_id, metric))
        return {point.step: point.value for point in points}

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write tags of a run, finished or not."""
        entries = [RunTag(key, value) for key, value in tags.items()]
        self.patience.insist("written", lambda: self._client.log_batch(run_id, tags=entries))

    def _experiment_id(self, name: str) -> str:
        with FileLock(self._locks / "store.lock"):  # two processes creating one experiment: one would fail
            experiment = self._client.get_experiment_by_name(name)
            if experiment is not None:
                return str(experiment.experiment_id)
            location = None
            if is_database(self.uri):  # not behind a server
                location = (self._directory / "artifacts" / name).resolve().as_uri()
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except Exception:  # another host, which does not share the lock, may have been first
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
                return str(experiment.experiment_id)

    def _bury_dead(self, run_key: str) -> None:
        """Close the runs of a key that nobody works on.

        Raises:
            BusyError: when one of them lives.
        """
        for run in self._open(run_key):
            tags = run.data.tags
            if self._lives(run):
                raise BusyError(f"run {run_key} is being worked on by {tags.get(HOST, 'another process')}")
            self._close(run.info.run_id)

    def _lives(self, run: Any) -> bool:
        """Whether a process works on an open run whose lock, if it is one of these locks, this process holds."""
        tags, run_id = run.data.tags, run.info.run_id
        if liveness.shares_locks(tags, self._lock_name):
            return False
        if liveness.is_fresh(tags):
            return True

        def look() -> Mapping[str, str] | None:
            now = self.patience.insist("read", lambda: self._client.get_run(run_id))
            return now.data.tags if now.info.status == _RUNNING else None

        return liveness.beats(look, tags.get(HOST, "another process"))

    def _settle(self, run_key: str, run_id: str) -> None:
        """Give way to another host that has begun the same run, or finished it, since this one looked.

        A run goes on only after it has seen no other: of two that see each other, the one that is first by its id
        waits for the other to give way, and gives way itself if that one was there before.

        Raises:
            BusyError: when this run is not to go on.
        """
        until = time.monotonic() + _SETTLE_SECONDS
        while rivals := self._rivals(run_key, run_id):
            if min(rivals) < run_id or time.monotonic() > until:
                raise BusyError(f"run {run_key} was begun by another host at the same moment")
            time.sleep(0.2)
        if self.finished(run_key):
            raise BusyError(f"run {run_key} was finished by another host at the same moment")

    def _rivals(self, run_key: str, run_id: str) -> list[str]:
        """Return the other runs of a key that are at work; what a lost answer of the server left is closed."""
        rivals = []
        for run in self._open(run_key):
            if run.info.run_id == run_id:
                continue
            if liveness.shares_locks(run.data.tags, self._lock_name):
                self._close(run.info.run_id)
            else:
                rivals.append(run.info.run_id)
        return rivals

    def _open(self, run_key: str) -> list[Any]:
        condition = f"tags.`harness.run_key` = '{run_key}' and attributes.status = '{_RUNNING}'"
        return list(self.patience.insist("read", lambda: self._search(condition)))

    def _close(self, run_id: str) -> None:
        """Give a dead run its end, unless it has had one since it was seen.

        One that died between its finish marker and its end has finished: nothing of it is missing.
        """

        def close() -> None:
            run = self._client.get_run(run_id)
            if run.info.status != _RUNNING:
                return
            if run.data.tags.get(FINISHED) == "true":
                last = 1000 * int(run.data.tags.get(HEARTBEAT, 0))  # that it was at work
                self._client.set_terminated(run_id, _FINISHED, max(last, run.info.start_time))
            else:
                self._client.set_terminated(run_id, _KILLED)

        self.patience.insist("written", close)

    def _search(self, condition: str) -> Iterable[Any]:
        experiments = [e.experiment_id for e in self._client.search_experiments(ViewType.ACTIVE_ONLY)]
        return self._client.search_runs(experiments, condition) if experiments else []


class TrackedRun:
    """One open MLflow run.

    What it measures is written at every epoch; while the store is away it is kept, and written when the store answers
    again, at the end of the run at the latest. A request that is made twice, because its answer was lost, changes
    nothing: a value's time is that of its epoch, and MLflow knows values by all that they are.
    """

    def __init__(self, store: Store, client: MlflowClient, run_id: str, started: int) -> None:
        self._store, self._client, self.run_id, self._started = store, client, run_id, started
        self._patience = store.patience
        self._unwritten: list[Metric] = []
        self._marked = self._over = False  # has the finish marker; has a final status
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        """Show other hosts that this process lives; a beat that does not get through is no reason to stop a run."""
        while not self._ended.wait(liveness.BEAT_SECONDS):
            with suppress(Exception):
                self._client.set_tag(self.run_id, HEARTBEAT, str(int(time.time())))

    def params(self, params: Mapping[str, Any]) -> None:
        """Write the parameters."""
        entries = [Param(key, str(value)) for key, value in params.items()]
        for i in range(0, len(entries), _PARAMS):
            write = partial(self._client.log_batch, self.run_id, params=entries[i : i + _PARAMS])
            self._patience.insist("written", write)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write metrics of one step in one request, or keep them while the store is away."""
        now = max(int(time.time() * 1000), self._started)
        self._unwritten += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._patience.attempt("written", self._write)

    def _write(self) -> None:
        """Write what is not written yet."""
        while self._unwritten:
            self._client.log_batch(self.run_id, metrics=self._unwritten[:_METRICS])
            del self._unwritten[:_METRICS]

    def tag(self, tags: Mapping[str, str]) -> None:
        """Write tags that are known only after the start."""
        self._store.tag(self.run_id, tags)

    def artifacts(self, folder: Path) -> None:
        """Copy everything in a folder to the run's artifacts."""
        self._patience.insist("written", lambda: self._client.log_artifacts(self.run_id, str(folder)))

    def finish(self) -> None:
        """Mark the run as finished: the last thing that is written, so that half a run is never taken for one.

        Raises:
            BusyError: when another host has taken the run for dead in the meantime, and begun it again.
        """
        self._patience.insist("written", self._write)
        status = self._patience.insist("read", lambda: self._client.get_run(self.run_id).info.status)
        if status != _RUNNING:
            self._over = True
            raise BusyError(f"run {self.run_id} was taken for dead by another host while this process stood still")
        self._patience.insist("written", self._mark)
        self._ended.set()

    def _mark(self) -> None:
        self._client.set_tag(self.run_id, FINISHED, "true")
        self._marked = True
        self._client.set_terminated(self.run_id, _FINISHED, self._now())
        self._over = True

    def prune(self) -> None:
        """Mark the run as stopped on purpose: it has no result."""
        self._ended.set()
        self.tag({PRUNED: "true"})
        self.end(_KILLED)

    def end(self, status: str) -> None:
        """Give the run one of MLflow's final statuses, and no finish marker."""
        self._ended.set()
        self._patience.insist("written", self._write)
        self._patience.insist("written", lambda: self._client.set_terminated(self.run_id, status, self._now()))

    def fail(self, reason: str) -> None:
        """Mark the run as failed, with the reason; a store that is away has nothing to be told.

        What interrupts a run after its last request changes nothing: it has finished.
        """
        self._ended.set()
        if self._over or self._patience.is_away:  # who interrupts must not wait for a server that hangs
            return
        with suppress(Exception), self._patience.whole():  # the first request that fails is the last
            if self._marked:
                self._client.set_terminated(self.run_id, _FINISHED, self._now())
                return
            self._client.set_tag(self.run_id, "harness.failure", reason[:5000])
            self._client.set_terminated(self.run_id, _FAILED, self._now())
            self._write()

    def _now(self) -> int:
        """Return the time in ms, never before the run's start: a clock may be set back."""
        return max(int(time.time() * 1000), self._started)

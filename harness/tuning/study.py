"""The Optuna study: one SQLite file, several processes, trials that outlive the death of whoever worked on them.

Every trial at work has a lock file that its process holds: the operating system releases it with the process, so a
trial that runs but is free belongs to a dead one. It becomes a failed trial, and its values are tried again. What is
counted, reserved or buried happens under the study's own lock, so no trial too many is begun.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import ConfigError, TrackingError
from harness.identity import derive_seed
from harness.schema import one_line

RETRY = "retry_of"  # on a trial that has the values of a dead one: the dead one's number
REASON = "reason"
SETTINGS = "settings"
_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 120.0  # that a write waits for other processes' writes
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class SharedStudy:
    """A study that several processes may work on.

    Args:
        directory: where `optuna.db` and the locks lie.
        name: the study's name.
        maximise: whether more of the objective is better.

    Raises:
        TrackingError: when the database cannot be opened.
    """

    def __init__(self, directory: Path, name: str, maximise: bool) -> None:
        self.name, self.maximise = name, maximise
        self._path, self._locks = directory / "optuna.db", directory / "locks"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        with self._explained():
            self._locks.mkdir(parents=True, exist_ok=True)
            with FileLock(self._locks / "optuna.lock"):  # several processes creating the tables: all but one would fail
                self._study = optuna.create_study(
                    storage=optuna.storages.RDBStorage(
                        URL.create("sqlite", database=str(self._path)).render_as_string(),
                        engine_kwargs={"connect_args": {"timeout": _PATIENCE_SECONDS}},
                    ),
                    study_name=name,
                    direction="maximize" if maximise else "minimize",
                    load_if_exists=True,
                )
        self._lock = FileLock(self._locks / f"study-{name}.lock")

    @property
    def optuna(self) -> optuna.Study:
        """The study itself, for what Optuna draws of it."""
        return self._study

    def begin(self, settings: Mapping[str, str], own: Mapping[str, Any]) -> None:
        """Bury what dead processes left; note what a new study stands on, and let it begin with the method's values.

        Raises:
            ConfigError: when the study was made with other settings.
        """
        with self._explained(), self._lock:
            kept = self._study.user_attrs.get(SETTINGS)
            if kept is None:
                if own:
                    self._study.enqueue_trial(dict(own), skip_if_exists=True)
                self._study.set_user_attr(SETTINGS, dict(settings))
            elif kept != dict(settings):
                others = ", ".join(key for key in settings if kept.get(key) != settings[key])
                raise ConfigError(
                    f"The study {self.name} was made with another {others}: give another tune.name, or none for a name "
                    "that goes with the settings."
                )
            self._bury()

    def trials(self) -> list[FrozenTrial]:
        """Return all trials that a living process began or that are over: neither waiting ones nor dead ones."""
        with self._explained():
            everything = self._study.get_trials(deepcopy=False)
        dead = {trial.user_attrs.get(RETRY) for trial in everything}
        return [t for t in everything if t.number not in dead and t.state != TrialState.WAITING]

    def best(self) -> FrozenTrial | None:
        """Return the finished trial with the best value, the earliest of equals."""
        finished = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        sign = -1 if self.maximise else 1
        return min(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    @contextmanager
    def next_trial(
        self, space: Mapping[str, BaseDistribution], total: int, deadline: float | None, seed: tuple[str, int]
    ) -> Iterator[Trial | None]:
        """Reserve the next trial, and hold it while the block runs; one without a result at its end is tried again.

        Yields None when there are `total` finished and pruned trials, or after the deadline; waits while the missing
        ones are at work in other processes, which may fail.

        Args:
            space: setting -> distribution.
            total: finished and pruned trials that the study is to have.
            deadline: seconds since the epoch.
            seed: what the sampler's seed is derived from, with the number of trials before this one.
        """
        taken = self._take(space, total, deadline, seed)
        if taken is None:
            yield None
            return
        trial, lock = taken
        try:
            yield trial
        finally:
            with self._explained(), self._lock:
                lock.release()
                self._bury()
                self._lock_file(trial.number).unlink(missing_ok=True)

    def tell(self, trial: Trial, value: float | None, state: TrialState, **notes: Any) -> None:
        """End a trial, with notes that stay with it."""
        with self._explained():
            for key, note in notes.items():
                trial.set_user_attr(key, note)
            self._study.tell(trial, value, state)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold what the study leaves behind: its files have one writer at a time."""
        with FileLock(self._locks / f"study-{self.name}-results.lock"):
            yield

    def idle(self) -> bool:
        """Whether no living process works on a trial."""
        with self._explained(), self._lock:
            self._bury()
            return not any(trial.state == TrialState.RUNNING for trial in self.trials())

    def set_pruner(self, epochs: int, prune: bool) -> None:
        """Prune by the median, after the first quarter of the epochs and five finished trials, or not at all.

        Successive halving would judge most trials in their first epochs, where AUROC says little yet.
        """
        self._study.pruner = MedianPruner(n_warmup_steps=max(1, epochs // 4)) if prune else NopPruner()

    def _take(
        self, space: Mapping[str, BaseDistribution], total: int, deadline: float | None, seed: tuple[str, int]
    ) -> tuple[Trial, FileLock] | None:
        waiting = False
        while True:
            with self._explained(), self._lock:
                self._bury()
                trials = self.trials()
                count = Counter(trial.state for trial in trials)
                done = sum(count[state] for state in DONE)
                if done >= total or (deadline is not None and time.time() > deadline):
                    return None
                if done + count[TrialState.RUNNING] < total:
                    # By its place: after a kill the study goes on with the values it would have had. Optuna's defaults
                    # are what parallel trials want: all settings together, those at work taken for bad ones.
                    self._study.sampler = TPESampler(seed=derive_seed("tune", *seed, len(trials)))
                    trial = self._study.ask(dict(space))
                    lock = FileLock(self._lock_file(trial.number))
                    lock.acquire(timeout=0)
                    return trial, lock
            if not waiting:
                print(
                    f"Waiting for {count[TrialState.RUNNING]} trials in other processes.", file=sys.stderr, flush=True
                )
                waiting = True
            time.sleep(_POLL_SECONDS)

    def _bury(self) -> None:
        """Fail the trials of dead processes, and have their values tried again; under the study's lock."""
        everything: Sequence[FrozenTrial] = self._study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(RETRY) for trial in everything}
        for trial in everything:
            if trial.state == TrialState.RUNNING and self._is_free(trial.number):
                if trial.number not in retried:  # this process could die here too
                    self._study.enqueue_trial(trial.params, user_attrs={RETRY: trial.number})
                self._study.tell(trial.number, state=TrialState.FAIL)
                self._lock_file(trial.number).unlink(missing_ok=True)

    def _is_free(self, number: int) -> bool:
        lock = FileLock(self._lock_file(number))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

    def _lock_file(self, number: int) -> Path:
        return self._locks / f"study-{self.name}-{number}.lock"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, StorageInternalError, OSError) as error:
            raise TrackingError(
                f"The study's database {self._path} cannot be used ({one_line(error)[:200]}); check tracking.directory "
                "and free disk space, then run the same command again."
            ) from error

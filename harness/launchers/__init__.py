"""Launchers that bring the runs of a sweep to processes of somebody else: joblib, Slurm, Ray, Hydra's own.

Those of `launcher=` run cell by cell, as `harness.workers` does on this machine: what has ended is told while the rest
goes on, one dead process costs its own run only, and an interrupt ends what is at work. Hydra's own launchers return
everything at the end or, after one dead process, nothing; who names one with `hydra/launcher` gets it as it is.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from omegaconf import DictConfig

from harness.cells import CellRunner
from harness.errors import ConfigError
from harness.grid import Cell
from harness.launchers.away import Away
from harness.launchers.stores import refuse_local_store
from harness.runs.environment import share_the_machine
from harness.runs.outcome import Outcome
from harness.sentences import told
from harness.workers import count

Run = Callable[[Sequence[Cell]], Iterator[tuple[Cell, Outcome]]]

PACKAGES = {"slurm": "submitit", "ray": "ray"}  # what a launcher cannot do without
AWAY = ("joblib", *PACKAGES)
_NO_SLURM = "There is no Slurm on this machine: runs go as processes of it (launcher.executor=local)."
_EXECUTORS = ("auto", "slurm", "local")


class Launched(Protocol):
    """What runs cells and yields each with its outcome, as they come."""

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Run cells."""


def jobs_of(settings: DictConfig, cells: int) -> int:
    """Return how many runs go at once: `launcher.jobs`, or what the machine takes; a cluster takes all.

    Args:
        settings: configuration of the sweep.
        cells: runs there are.

    Raises:
        ConfigError: for numbers that mean nothing.
    """
    if settings.launcher.jobs is None and _is_cluster(settings.launcher):
        return max(1, cells)
    return count(settings.launcher.jobs, cells, settings.trainer.device, settings.trainer.threads)


def executor_of(launcher: DictConfig) -> str:
    """Return what runs the jobs of `launcher=slurm`: `slurm` or `local`, or by itself Slurm where there is one."""
    if launcher.executor != "auto":
        return str(launcher.executor)
    return "slurm" if shutil.which("sbatch") else "local"


def launcher_of(settings: DictConfig, jobs: int, runner: CellRunner) -> AbstractContextManager[Launched]:
    """Return the launcher that `launcher=` names.

    Args:
        settings: configuration of the sweep.
        jobs: runs at once.
        runner: runs one cell, sent to other processes; finds cells that are finished.

    Raises:
        ConfigError: when its package is missing, a setting means nothing, or the store cannot be shared by its hosts.
    """
    launcher = settings.launcher
    _check(launcher)
    share_the_machine(jobs)
    away = Away.of(runner, jobs)
    if launcher.name == "joblib":
        from harness.launchers.joblib_pool import JoblibPool

        return JoblibPool(jobs, away)
    if launcher.name == "slurm":
        from harness.launchers.slurm_jobs import SlurmJobs
        from harness.launchers.submitit_jobs import JobsHere

        if _is_cluster(launcher):
            refuse_local_store(settings.tracking.uri, "Slurm's jobs run on other hosts")
            return SlurmJobs(settings, jobs, away, runner.finished)
        if launcher.executor == "auto":
            print(_NO_SLURM, file=sys.stderr)
        return JobsHere(settings, jobs, away, runner.finished)
    from harness.launchers.ray_tasks import RayTasks

    return RayTasks(settings, jobs, away, runner.finished)


def what_is_left(runner: CellRunner, run: Run) -> Run:
    """Return what runs cells, but launches none that cannot run or is finished: a job may have to queue for hours."""

    def run_rest(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        rest = []
        for cell in cells:
            try:
                found = runner.finished(cell)
            except Exception as error:  # of one cell: no reason to give up the others
                found = Outcome("failed", reason=told(error))
            if found is None:
                rest.append(cell)
            else:
                yield cell, found
        if rest:
            yield from run(rest)

    return run_rest


def _is_cluster(launcher: DictConfig) -> bool:
    """Whether runs go to other hosts than this, as far as the settings tell."""
    if launcher.name == "slurm":
        return executor_of(launcher) == "slurm"
    return launcher.name == "ray" and launcher.address is not None


def install_command(launcher: str) -> str:
    """Return what installs the package of a launcher, in a checkout."""
    return f"pip install -c constraints.txt '.[{launcher}]'"


def _check(launcher: DictConfig) -> None:
    package = PACKAGES.get(launcher.name)
    if package and importlib.util.find_spec(package) is None:
        name = launcher.name
        raise ConfigError(f"launcher={name} needs its package: {install_command(name)}")
    if launcher.get("executor", "auto") not in _EXECUTORS:
        choices = ", ".join(_EXECUTORS)
        raise ConfigError(f"launcher.executor={launcher.executor} is not possible; choose one of {choices}.")
    for key in ("minutes", "cpus", "runs_per_job"):
        if launcher.get(key, 1) < 1:
            raise ConfigError(f"launcher.{key}={launcher[key]} is not possible; give a whole number of at least 1.")
    for key in ("memory_gib", "gpus"):
        if (launcher.get(key) or 0) < 0:
            raise ConfigError(f"launcher.{key}={launcher[key]} is not possible; give a number that is not negative.")

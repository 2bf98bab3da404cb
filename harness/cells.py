"""One cell of a grid in this process: composed, found legal or not, run as a Hydra job."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hydra import version
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from harness.errors import ConfigError, DataError, WeightsError
from harness.grid import Cell
from harness.hydra_errors import explain
from harness.runs.outcome import Outcome
from harness.schema import register, validate
from harness.sentences import told


def run_cell(config: DictConfig) -> Outcome:
    """Run one cell: what Hydra calls, once without -m and for every cell of a grid with it."""
    from harness.runs.execute import execute  # MLflow takes seconds to import: not for --help

    with open_dict(config):
        del config.launcher  # how many runs go at once belongs to the sweep: no run may record it
    return execute(config)


class CellRunner:
    """Runs cells one after the other, whatever becomes of them; can be sent to another process.

    Args:
        context: Hydra's, which composes.
        config: the master configuration of the sweep.
        task: what is called with a cell's configuration; returns an :class:`Outcome`.
    """

    def __init__(self, context: HydraContext, config: DictConfig, task: TaskFunction) -> None:
        self._context, self._config, self._task = context, config, task
        self._kept: tuple[list[str], DictConfig] | None = None

    def __call__(self, cell: Cell) -> Outcome:
        """Run a cell; a failure is an outcome, not an exception."""
        try:
            config = self.legal(cell)
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = 0
            done = run_job(
                task_function=self._task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                hydra_context=self._context,
            )
        except Exception as error:
            return Outcome("failed", reason=told(error))
        return judged(cell, outcome_of(done))

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Yield every cell with its outcome, one after the other."""
        return ((cell, self(cell)) for cell in cells)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose one cell's configuration.

        Raises:
            ConfigError: when the overrides name what does not exist or does not fit.
        """
        try:
            return self._context.config_loader.load_sweep_config(self._config, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(explain(error)) from error

    def legal(self, cell: Cell) -> DictConfig:
        """Return a cell's configuration, with nothing in it that does not resolve.

        Raises:
            ConfigError: saying why the cell cannot run.
        """
        if cell.problem is not None:
            raise ConfigError(cell.problem)
        config = self._composed(cell.overrides)
        try:
            OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(explain(error)) from error
        return config

    def finished(self, cell: Cell) -> Outcome | None:
        """Return the outcome of a cell that is finished in the store, and None for one that has to run.

        Raises:
            ConfigError: saying why the cell cannot run.
            TrackingError: when the store cannot be read.
        """
        from harness.identity import identify
        from harness.runs.execute import open_store, quieten

        quieten()
        config = self.legal(cell)
        with open_dict(config):
            del config.hydra, config.launcher  # as of every run
        validate(config)
        try:
            identity = identify(config)
        except (DataError, WeightsError):  # the host that runs it may have them
            return None
        done = open_store(**config.tracking).finished(identity.key)
        if done is None or done.only_trial:  # a study's run has to be told that it was asked for
            return None
        what = (config.method.name, identity.name, str(config.category), config.seed, identity.key)
        return Outcome("skipped", *what, run_id=done.run_id, metrics=done.metrics)

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a cell; one that differs from the last in its seed alone takes a tenth of the time."""
        seeds = [override for override in overrides if re.fullmatch(r"seed=\d+", override)]
        rest = [override for override in overrides if override not in seeds]
        if len(seeds) != 1:
            return self.compose(overrides)
        if self._kept is None or self._kept[0] != rest:
            self._kept = rest, self.compose(rest)
        config = copy.deepcopy(self._kept[1])
        config.seed = int(seeds[0].removeprefix("seed="))
        with open_dict(config):
            config.hydra.overrides.task.append(seeds[0])
        return config


def judged(cell: Cell, outcome: Outcome) -> Outcome:
    """Return the outcome of a cell, which may have told that it needs images that are not to be had."""
    if cell.needs and outcome.lacks_pixels:
        return replace(outcome, status="impossible", reason=f"It needs {cell.needs}. {outcome.reason}")
    return outcome


def prepare_process() -> None:
    """Make a fresh process one that cells can run in."""
    version.setbase("1.3")
    setup_globals()
    register()
    Plugins.instance()  # finds the configurations that Hydra's plugins bring
    import harness.runs.execute  # noqa: F401  what every cell needs; torch comes with the first that trains


def outcome_of(done: JobReturn) -> Outcome:
    """Return what became of a Hydra job."""
    value: Any = done._return_value
    return value if done.status == JobStatus.COMPLETED else Outcome("failed", reason=told(value))

"""The Hydra sweeper of the harness: expands a grid, skips nothing silently, survives bad cells, prints the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from harness.cells import CellRunner, prepare_process
from harness.data.looking import looking
from harness.errors import ConfigError, HarnessError
from harness.grid import Cell, expand, split_launcher
from harness.launchers import AWAY, Launched, jobs_of, launcher_of, what_is_left
from harness.launchers.stores import warning_of
from harness.runs.outcome import Outcome
from harness.schema import validate_launcher
from harness.terminal import counted
from harness.workers import Workers, count

_BASIC = "BasicLauncher"  # Hydra's own, in whose place the harness runs cells itself
_POLL_SECONDS = 2.0
_AWAY_POLL_SECONDS = 30.0  # where asking again means a new job


class GridSweeper(Sweeper):
    """Runs every cell of a grid, whatever becomes of the others.

    A cell that another process is working on is put off; when all others are done, it is waited for.
    """

    requested: Sequence[str] = ()  # the command line's overrides, kept out of the master configuration by __main__
    config_dir: str | None = None

    # Hydra takes plugins only from a package of this name: see harness/plugins.
    __module__ = "hydra_plugins.anomaly_harness"

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take Hydra's context, and its launcher where the user chose one."""
        self._runner = CellRunner(hydra_context, config, task_function)
        self._launcher: Launcher | None = None
        if not config.hydra.launcher._target_.endswith(_BASIC):
            self._launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

    def sweep(self, arguments: list[str]) -> list[tuple[Cell, Outcome]]:
        """Run the grid and return what became of each cell, in the order of the grid."""
        from harness.summary import Progress, conclude

        own, launcher = split_launcher([*self.requested, *arguments])
        with looking() if "dry=true" in map(str.lower, own) else nullcontext():
            cells = expand(own, self._runner.compose)
        dry = [override for override in own if override.partition("=")[0] == "dry"]
        settings = self._settings(cells, [*launcher, *dry])
        jobs = self._jobs(settings, len(cells))
        launching = nullcontext(self._runner) if settings.dry else self._launching(settings, jobs)
        if settings.dry:
            from harness.plan import show_plan

            sys.exit(show_plan(cells, self._runner.legal, settings.tracking, jobs))
        if warning := warning_of(settings.tracking.uri):
            print(warning, file=sys.stderr)
        outcomes: dict[Cell, Outcome] = {}
        interrupted = False
        progress = Progress(cells)
        try:
            with launching as launched:
                for cell, outcome in self._until_none_is_busy(cells, launched):
                    outcomes[cell] = outcome
                    progress.tell(cell, outcome)
        except KeyboardInterrupt:
            interrupted = True
        folder = [f"--config-dir={self.config_dir}"] if self.config_dir else []
        results = [(cell, outcomes.get(cell)) for cell in cells]
        conclude(results, settings.tracking, [*folder, *own], interrupted)
        return list(outcomes.items())

    def _settings(self, cells: Sequence[Cell], own: Sequence[str]) -> DictConfig:
        """Return what the runs have in common: what the first legal cell says, and the sweep's own overrides."""
        bare = self._runner.compose(own)  # a mistake in the launcher is not every cell's
        for cell in cells:
            with suppress(HarnessError):
                return self._runner.compose([*cell.overrides, *own])
        return bare

    def _jobs(self, settings: DictConfig, cells: int) -> int:
        launcher = settings.launcher
        validate_launcher(launcher)
        if self._launcher is None:
            jobs = jobs_of(settings, cells)
        elif launcher.jobs == 1 and launcher.name not in AWAY:
            own = settings.hydra.launcher.get("n_jobs", cells) or 1  # joblib's, whose null is 1 and whose -1 all cores
            if own < -1:
                raise ConfigError(f"hydra.launcher.n_jobs={own} is not possible; give a number of runs, or -1.")
            jobs = count(own, cells, settings.trainer.device, settings.trainer.threads)
        else:
            raise ConfigError("launcher and hydra/launcher both say how runs are launched: leave one of them out.")
        if jobs != 1 and settings.timing:
            raise ConfigError("timing=true wants the machine for itself: give launcher=serial or launcher.jobs=1.")
        return int(jobs)

    def _launching(self, settings: DictConfig, jobs: int) -> AbstractContextManager[Launched]:
        """Return what runs cells: a launcher, Hydra's or ours, worker processes, or this process.

        Raises:
            ConfigError: when the launcher cannot be used.
        """
        if self._launcher is not None:
            from harness.launchers.hydras_own import HydrasOwn

            return nullcontext(HydrasOwn(self._launcher, jobs, self._runner.finished))
        if settings.launcher.name in AWAY:
            return launcher_of(settings, jobs, self._runner)
        return Workers(jobs, self._runner, prepare_process) if jobs > 1 else nullcontext(self._runner)

    def _until_none_is_busy(self, cells: Sequence[Cell], launched: Launched) -> Iterator[tuple[Cell, Outcome]]:
        """Run cells, and again those that other processes work on, until these are done."""
        here = isinstance(launched, CellRunner | Workers)
        run = launched.run if here else what_is_left(self._runner, launched.run)
        waiting = False
        while cells:
            busy = []
            for cell, outcome in run(cells):
                yield cell, outcome
                if outcome.status == "busy":
                    busy.append(cell)
            if busy:
                if not waiting:
                    print(f"Waiting for {counted(len(busy))} that other processes work on.", file=sys.stderr)
                    waiting = True
                time.sleep(_POLL_SECONDS if here else _AWAY_POLL_SECONDS)
            cells = busy

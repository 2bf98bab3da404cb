"""The Hydra sweeper of the harness: expands a grid, skips nothing silently, survives bad cells, prints the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from harness.cells import CellRunner, judged, outcome_of, prepare_process
from harness.errors import ConfigError, HarnessError
from harness.grid import Cell, expand, split_launcher
from harness.runs.outcome import Outcome
from harness.schema import one_line
from harness.workers import Workers, count

_BASIC = "BasicLauncher"  # Hydra's own, in whose place the harness runs cells itself
_POLL_SECONDS = 2.0

Run = Callable[[Sequence[Cell]], Iterator[tuple[Cell, Outcome]]]


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

        try:
            own, launcher = split_launcher([*self.requested, *arguments])
            cells = expand(own, self._runner.compose)
            dry = [override for override in own if override.partition("=")[0] == "dry"]
            settings = self._settings(cells, [*launcher, *dry])
            jobs = self._jobs(settings, len(cells))
        except (HarnessError, HydraException) as error:
            sys.exit(one_line(error))
        if settings.dry:
            from harness.plan import show_plan

            sys.exit(show_plan(cells, self._runner.legal, settings.tracking, jobs))
        outcomes: dict[Cell, Outcome] = {}
        interrupted = False
        progress = Progress(cells)
        try:
            with self._running(jobs) as run:
                for cell, outcome in _until_none_is_busy(cells, run):
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
        jobs = count(settings.launcher.jobs, cells, settings.trainer.device, settings.trainer.threads)
        if self._launcher is not None and settings.launcher.jobs != 1:
            raise ConfigError("launcher and hydra/launcher both say how runs are launched: leave one of them out.")
        if jobs > 1 and settings.timing:
            raise ConfigError("timing=true wants the machine for itself: leave launcher=local out.")
        return jobs

    @contextmanager
    def _running(self, jobs: int) -> Iterator[Run]:
        """Return what runs cells: Hydra's launcher, worker processes, or this process."""
        if self._launcher is not None:
            yield self._launch
        elif jobs > 1:
            with Workers(jobs, self._runner, prepare_process) as workers:
                yield workers.run
        else:
            yield lambda cells: ((cell, self._runner(cell)) for cell in cells)

    def _launch(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Give all legal cells at once to Hydra's launcher, which would give up the whole grid for an illegal one."""
        assert self._launcher is not None
        legal = []
        for cell in cells:
            try:
                self._runner.legal(cell)
                legal.append(cell)
            except HarnessError as error:
                yield cell, Outcome("failed", reason=one_line(error))
        try:
            done = self._launcher.launch([cell.overrides for cell in legal], initial_job_idx=0) if legal else []
            outcomes = [judged(cell, outcome_of(job)) for cell, job in zip(legal, done, strict=True)]
        except Exception as error:  # a worker died, for example: what it has finished is in the store
            outcomes = [Outcome("failed", reason=f"The launcher failed: {one_line(error)}")] * len(legal)
        yield from zip(legal, outcomes, strict=True)


def _until_none_is_busy(cells: Sequence[Cell], run: Run) -> Iterator[tuple[Cell, Outcome]]:
    """Run cells, and again those that other processes work on, until these are done."""
    waiting = False
    while cells:
        busy = []
        for cell, outcome in run(cells):
            yield cell, outcome
            if outcome.status == "busy":
                busy.append(cell)
        if busy:
            if not waiting:
                print(f"Waiting for {len(busy)} runs that other processes work on.", file=sys.stderr)
                waiting = True
            time.sleep(_POLL_SECONDS)
        cells = busy

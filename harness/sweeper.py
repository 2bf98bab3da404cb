"""The Hydra sweeper of the harness: expands a grid, skips nothing silently, survives bad cells, prints the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import ConfigError, HarnessError
from harness.grid import Cell, expand
from harness.runs.outcome import Outcome
from harness.schema import explain, one_line

_SERIAL = "BasicLauncher"
_POLL_SECONDS = 2.0


class GridSweeper(Sweeper):
    """Runs every cell of a grid, whatever becomes of the others.

    A cell that another process is working on is put off; when all others are done, it is waited for.
    """

    requested: Sequence[str] = ()  # the command line's overrides, kept out of the master configuration by __main__
    config_dir: str | None = None

    # Hydra takes plugins only from a package of this name: see harness/plugins.
    __module__ = "hydra_plugins.anomaly_harness"

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take Hydra's context and instantiate its launcher."""
        self._context, self._config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[tuple[Cell, Outcome]]:
        """Run the grid and return what became of each cell, in the order of the grid."""
        try:
            cells = expand([*self.requested, *arguments], self._compose)
        except (HarnessError, HydraException) as error:
            sys.exit(one_line(error))
        outcomes: dict[Cell, Outcome] = {}
        interrupted = False
        try:
            for batch in self._batches(cells):
                outcomes.update(self._launch(batch))
            said = False
            while busy := [cell for cell, outcome in outcomes.items() if outcome.status == "busy"]:
                if not said:
                    print(f"Waiting for {len(busy)} runs that other processes work on.", file=sys.stderr)
                    said = True
                time.sleep(_POLL_SECONDS)
                outcomes.update(self._launch(busy))
        except KeyboardInterrupt:
            interrupted = True
        from harness.summary import conclude

        own = [f"--config-dir={self.config_dir}"] if self.config_dir else []
        results = [(cell, outcomes.get(cell)) for cell in cells]
        conclude(results, self._tracking(cells), [*own, *self.requested], interrupted)
        return list(outcomes.items())

    def _tracking(self, cells: Sequence[Cell]) -> DictConfig:
        """Return where the runs went: what the first legal cell says."""
        for cell in cells:
            with suppress(HarnessError):
                return self._compose(cell.overrides).tracking
        return self._config.tracking

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        try:
            return self._context.config_loader.load_sweep_config(self._config, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(explain(error)) from error

    def _batches(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        """One cell at a time in this process, all at once for a launcher that works in parallel."""
        if type(self._launcher).__name__ == _SERIAL:
            return [[cell] for cell in cells]
        return [list(cells)]

    def _launch(self, cells: Sequence[Cell]) -> dict[Cell, Outcome]:
        outcomes = {cell: self._illegal(cell) for cell in cells}
        legal = [cell for cell, problem in outcomes.items() if problem is None]
        if legal:
            try:
                returns = self._launcher.launch([cell.overrides for cell in legal], initial_job_idx=0)
                outcomes |= {cell: _outcome(done) for cell, done in zip(legal, returns, strict=True)}
            except Exception as error:  # a launcher whose worker died: what it has finished is in the store
                outcomes |= {
                    cell: Outcome("failed", reason=f"The launcher failed: {one_line(error)}") for cell in legal
                }
        return {cell: outcome for cell, outcome in outcomes.items() if outcome is not None}

    def _illegal(self, cell: Cell) -> Outcome | None:
        """Return a failure for a cell that cannot be composed; the launcher would give up the whole grid for it."""
        try:
            if cell.problem is not None:
                raise ConfigError(cell.problem)
            OmegaConf.to_container(self._compose(cell.overrides), resolve=True)
        except (HarnessError, OmegaConfBaseException) as error:
            return Outcome("failed", reason=one_line(error))
        return None


def _outcome(done: Any) -> Outcome:
    if done.status == JobStatus.COMPLETED:
        return done.return_value
    return Outcome("failed", reason=one_line(done._return_value))

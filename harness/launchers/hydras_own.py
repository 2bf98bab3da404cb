"""Hydra's own launchers, as they are: all cells at once, and nothing told before the last has ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hydra.plugins.launcher import Launcher

import harness
from harness.cells import judged, outcome_of
from harness.grid import Cell
from harness.launchers.away import found_instead
from harness.runs.environment import share_the_machine
from harness.runs.outcome import Outcome
from harness.schema import one_line

_PLUGINS = Path(harness.__file__).parent / "plugins"


class HydrasOwn:
    """Gives cells to a launcher of Hydra's.

    Args:
        launcher: set up.
        jobs: runs at once, at most.
        find: returns the outcome of a cell that is finished in the store.
    """

    def __init__(self, launcher: Launcher, jobs: int, find: Callable[[Cell], Outcome | None]) -> None:
        self._launcher, self._find = launcher, find
        share_the_machine(jobs)
        # What Hydra sends to other processes names the sweeper, which they have to find.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_PLUGINS), os.environ.get("PYTHONPATH")]))

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Yield every cell with its outcome, when all have ended."""
        try:
            done = self._launcher.launch([cell.overrides for cell in cells], initial_job_idx=0)
            yield from ((cell, judged(cell, outcome_of(job))) for cell, job in zip(cells, done, strict=True))
        except Exception as error:  # a process died, for example: the launcher forgets what the others have done
            failed = Outcome("failed", reason=f"The launcher failed: {one_line(error)[:1000]}")
            for cell in cells:
                yield cell, found_instead(self._find, cell, failed)

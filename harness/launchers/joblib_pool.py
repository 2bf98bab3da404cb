"""`launcher=joblib`: a pool of joblib's processes on this machine.

The pool as a whole breaks with one dead process. What it had in work is then run again, one cell at a time, when all
others are done; a cell whose process dies again has failed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from typing import Any

from joblib.externals.loky import get_reusable_executor

from harness import interruption
from harness.grid import Cell
from harness.launchers.away import Away
from harness.runs.outcome import Outcome

_IDLE_SECONDS = 300  # after which a process that has nothing to do ends
_DIED = (
    "Its joblib process died twice, the second time with no other run beside it, most likely for want of memory: "
    "lower method.batch_size, trainer.eval_batch_size or preprocess.size; launcher=local says how it died."
)


class JoblibPool:
    """Runs cells in a pool of processes; use as a context, at whose end no process is left.

    Args:
        jobs: runs at once.
        away: runs cells in a process of the pool.
    """

    def __init__(self, jobs: int, away: Away) -> None:
        self._jobs, self._away = jobs, away
        self._pool: Any = None

    def __enter__(self) -> JoblibPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for pid in list(self._pool._processes):
                with suppress(OSError):
                    os.kill(pid, signal.SIGINT)
        ending = threading.Thread(target=self._pool.shutdown, daemon=True)
        ending.start()
        ending.join(interruption.STOP_SECONDS)
        self._pool.shutdown(kill_workers=True)

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Yield every cell with its outcome, as they come."""
        lost: list[Cell] = []
        yield from self._spread(cells, self._jobs, lost)
        if lost:
            print(f"{len(lost)} runs lost their joblib process: they run again, one at a time.", file=sys.stderr)
        for lost_cell in lost:
            lost_again: list[Cell] = []
            for cell, outcome in self._spread([lost_cell], 1, lost_again):
                done = outcome.status == "skipped"  # it had finished when the pool broke
                yield cell, replace(outcome, status="finished") if done else outcome
            yield from ((cell, Outcome("failed", reason=_DIED)) for cell in lost_again)

    def _spread(self, cells: Sequence[Cell], jobs: int, lost: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Run cells on so many processes; those that the pool had when it broke are added to `lost`."""
        waiting, at_work = deque(cells), dict[Future[list[Outcome]], Cell]()
        while waiting or at_work:
            with suppress(BrokenProcessPool):  # as those at work are about to tell
                while waiting and len(at_work) < jobs:
                    self._pool = get_reusable_executor(max_workers=jobs, timeout=_IDLE_SECONDS)
                    at_work[self._pool.submit(_run, self._away, waiting[0])] = waiting[0]
                    waiting.popleft()
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                cell = at_work.pop(future)
                try:
                    (outcome,) = future.result()
                except BrokenProcessPool:
                    lost.append(cell)
                else:
                    yield cell, outcome


def _run(away: Away, cell: Cell) -> list[Outcome]:
    """Run a cell in a process of the pool, which dies of an interrupt: as an error the sweep would take it for its own.

    The run has told the store before.
    """
    try:
        return away([cell])
    except KeyboardInterrupt:
        os._exit(interruption.exit_code())

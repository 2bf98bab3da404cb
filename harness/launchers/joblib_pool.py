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
from harness.terminal import counted

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
        try:
            ending.start()
            ending.join(interruption.STOP_SECONDS)
        finally:  # a second Ctrl-C too
            self._pool.shutdown(kill_workers=True)

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Yield every cell with its outcome, as they come."""
        lost: list[Cell] = []
        yield from self._spread(cells, self._jobs, lost)
        if lost:
            print(f"{counted(len(lost))} lost the joblib process, to be run again one at a time.", file=sys.stderr)
        for lost_cell in lost:
            lost_again: list[Cell] = []
            for cell, outcome in self._spread([lost_cell], 1, lost_again):
                done = outcome.status == "skipped"  # it had finished when the pool broke
                yield cell, replace(outcome, status="finished") if done else outcome
            yield from ((cell, Outcome("failed", reason=_DIED)) for cell in lost_again)

    def _spread(self, cells: Sequence[Cell], jobs: int, lost: list[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Run cells on so many processes; those of dead and of interrupted processes are added to `lost`.

        A process that somebody has interrupted hears of no second interrupt: the others end what they are at, and a new
        pool goes on.
        """
        waiting, at_work = deque(cells), dict[Future[list[Outcome]], Cell]()
        deaf = False
        while waiting or at_work or deaf:
            if deaf and not at_work:
                self._pool.shutdown()
                deaf = False
            with suppress(BrokenProcessPool):  # as those at work are about to tell
                while waiting and len(at_work) < jobs and not deaf:
                    self._pool = get_reusable_executor(max_workers=jobs, timeout=_IDLE_SECONDS)
                    at_work[self._pool.submit(_run, self._away, waiting[0])] = waiting[0]
                    waiting.popleft()
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                cell = at_work.pop(future)
                try:
                    outcomes = future.result()
                except BrokenProcessPool:
                    lost.append(cell)
                    continue
                deaf = deaf or not outcomes
                if outcomes:
                    yield cell, outcomes[0]
                else:
                    lost.append(cell)


def _run(away: Away, cell: Cell) -> list[Outcome]:
    """Run a cell in a process of the pool; return nothing when it is interrupted.

    As an error the sweep would take that for an interrupt of its own, and of a process that ends itself the pool would
    die: the others could not tell the store any more.
    """
    if interruption.received():  # the pool has given more to this process before it heard of that
        return []
    try:
        return away([cell])
    except KeyboardInterrupt:
        return []

"""What a process that somebody else started, on this host or another, does to run cells."""

from __future__ import annotations

import os
import pickle
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import harness
from harness import interruption
from harness.cells import CellRunner, prepare_process
from harness.errors import ConfigError, HarnessError
from harness.grid import Cell
from harness.runs.environment import share_the_machine
from harness.runs.outcome import Outcome


@dataclass(frozen=True)
class Away:
    """Runs cells where it is sent to: it prepares the process once, and keeps it as the sweep's own workers are.

    Attributes:
        runner: a :class:`CellRunner`, pickled: each process unpickles it once.
        jobs: runs at once, as far as the sweep knows.
        folder: working directory of the sweep, which relative paths are relative to.
        version: of the harness that sent it.
        stops: whether SIGTERM and SIGHUP interrupt a process as Ctrl-C does; Ray has handlers of its own for them.
    """

    runner: bytes
    jobs: int
    folder: str
    version: str
    stops: bool = True

    @classmethod
    def of(cls, runner: CellRunner, jobs: int) -> Away:
        """Return what sends a runner away from this process."""
        return cls(pickle.dumps(runner), jobs, os.getcwd(), harness.__version__)

    def __call__(self, cells: Sequence[Cell]) -> list[Outcome]:
        """Run cells one after the other; a failure is an outcome, not an exception."""
        try:
            runner = _prepared(self)
            return [runner(cell) for cell in cells]
        except HarnessError as error:
            return [Outcome("failed", reason=str(error))] * len(cells)


@lru_cache(maxsize=1)
def _prepared(away: Away) -> CellRunner:
    """Make this process one that cells can run in, once.

    Raises:
        ConfigError: when this host is not like the one that the sweep runs on.
    """
    try:
        os.chdir(away.folder)
    except OSError as error:
        raise ConfigError(
            f"The folder of the sweep, {away.folder}, cannot be used on {socket.gethostname()} ({error.strerror}): "
            "start the sweep in a folder that all hosts share."
        ) from error
    if away.version != harness.__version__:
        raise ConfigError(
            f"{socket.gethostname()} has anomaly-harness {harness.__version__}, the sweep {away.version}: "
            "install the same version on all hosts, best one environment in a folder that they share."
        )
    interruption.interrupt_once(away.stops)
    share_the_machine(away.jobs)
    prepare_process()
    runner: CellRunner = pickle.loads(away.runner)
    return runner


def found_instead(find: Callable[[Cell], Outcome | None], cell: Cell, failed: Outcome) -> Outcome:
    """Return the outcome of a cell whose process said nothing: the store may have it, if it can be asked.

    Args:
        find: returns the outcome of a cell that is finished in the store.
        cell: what was to be run.
        failed: what is told where that finds nothing.
    """
    with suppress(Exception):
        if found := find(cell):
            return replace(found, status="finished")
    return failed


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let processes that start here not hear the terminal's Ctrl-C, which is the sweep's: it ends them itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Worker processes that live as long as a sweep: each takes a cell when it is free, and dies alone.

A pool of the standard library's, or joblib's, is broken as a whole by one dead worker: it ends the healthy ones too,
in the middle of their runs, and cannot tell which cell was at fault. Here every worker has a pipe of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait

from harness import interruption
from harness.errors import ConfigError
from harness.grid import Cell
from harness.runs import devices
from harness.runs.environment import share_the_machine
from harness.runs.outcome import Outcome
from harness.terminal import counted

Task = Callable[[Cell], Outcome]

_LOOK_SECONDS = 1.0  # between looks at who still lives
_NO_START = "No worker process could be started: run the same command with launcher=serial, which says why."
_MEMORY = (
    "Its worker process was killed ({}) twice, the second time with no other run beside it, most likely for want of "
    "memory: lower method.batch_size, trainer.eval_batch_size or preprocess.size, and launcher.jobs for the other runs."
)
_CRASH = "Its worker process died twice ({}): run it by itself, with launcher=serial, to see why."


def count(jobs: int | None, cells: int, device: str, threads: int) -> int:
    """Return how many runs go at once.

    Args:
        jobs: what was asked for; None or -1: one a physical core that this process may use (affinity and cgroup
            limits looked at), divided by the threads of a run; on GPUs one a GPU, for they are queued there.
        cells: how many runs there are.
        device: `trainer.device` of the runs.
        threads: `trainer.threads` of the runs.

    Raises:
        ConfigError: for a number that is none of workers, or none of threads.
    """
    if threads < 1:
        raise ConfigError(f"trainer.threads={threads} is not possible; give a whole number of at least 1.")
    if jobs is None or jobs == -1:
        gpus = devices.visible() if device in ("auto", "cuda") else 0
        jobs = gpus or max(1, _cores() // threads)
    if jobs < 1:
        raise ConfigError(f"launcher.jobs={jobs} is not possible; give a whole number of at least 1, or null.")
    return max(1, min(jobs, cells))


def _cores() -> int:
    from joblib import cpu_count

    return int(cpu_count(only_physical_cores=True))


class Queue:
    """Cells that wait, by the images they need: a worker goes on with those it has in memory."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._groups: dict[tuple[str, ...], deque[Cell]] = {}
        for cell in cells:
            self._groups.setdefault(cell.images, deque()).append(cell)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def take(self, last: Cell | None, others: Sequence[Cell]) -> Cell:
        """Return the next cell for a worker.

        Args:
            last: what the worker ran last.
            others: what the other workers run or ran last.
        """
        images = self._choose(last, {cell.images for cell in others})
        cell = self._groups[images].popleft()
        if not self._groups[images]:
            del self._groups[images]
        return cell

    def _choose(self, last: Cell | None, taken: set[tuple[str, ...]]) -> tuple[str, ...]:
        """Stay, else begin what nobody has begun, else help where most is left."""
        if last is not None and last.images in self._groups:
            return last.images
        fresh = [images for images in self._groups if images not in taken]
        return fresh[0] if fresh else max(self._groups, key=lambda images: len(self._groups[images]))


class Workers:
    """Runs cells in worker processes; use as a context, at whose end no process is left.

    Args:
        jobs: how many processes at most.
        task: runs one cell; sent to every worker once.
        prepare: called in every worker before its first cell.
    """

    def __init__(self, jobs: int, task: Task, prepare: Callable[[], None]) -> None:
        self._jobs, self._task, self._prepare = jobs, task, prepare
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop(interrupt=kind is not None)

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Yield every cell with its outcome, as they come.

        A cell whose worker dies runs once more when all others are done, alone: its death may be the fault of those
        that ran beside it. What a dead worker had finished is in the store.
        """
        lost: list[tuple[Cell, str]] = []
        yield from self._spread(cells, self._jobs, lost)
        if lost:
            _say(f"{counted(len(lost))} lost the worker process, to be run again one at a time.")
            self._stop()
            lost_again: list[tuple[Cell, str]] = []
            yield from self._spread([cell for cell, _ in lost], 1, lost_again)
            for cell, how in lost_again:
                yield cell, Outcome("failed", reason=(_MEMORY if how == "SIGKILL" else _CRASH).format(how))

    def _spread(self, cells: Sequence[Cell], jobs: int, lost: list[tuple[Cell, str]]) -> Iterator[tuple[Cell, Outcome]]:
        """Run cells on so many workers; those whose worker died are added to `lost`, with how it died."""
        queue = Queue(cells)
        self._start(min(jobs, len(queue)))
        while queue or any(worker.cell for worker in self._workers):
            if not self._workers:
                yield queue.take(None, []), Outcome("failed", reason=_NO_START)
                continue
            self._hand_out(queue)
            for worker in self._heard():
                cell, outcome = worker.receive()
                if cell is not None and outcome is not None:
                    yield cell, outcome
                if worker.dead:
                    self._workers.remove(worker)
                    how = worker.bury()
                    if cell is not None:
                        lost.append((cell, how))
                    if worker.ready:  # one that did not even get ready would do so again
                        self._start(min(jobs, len(self._workers) + len(queue)))

    def _start(self, total: int) -> None:
        with suppress(OSError):  # the system has no room for another process: fewer must do
            while len(self._workers) < total:
                self._workers.append(_Worker(self._task, self._prepare, self._jobs))

    def _hand_out(self, queue: Queue) -> None:
        for worker in self._workers:
            if queue and worker.ready and worker.cell is None:
                others = [other.last for other in self._workers if other is not worker and other.last]
                worker.give(queue.take(worker.last, others))

    def _heard(self) -> list[_Worker]:
        """Return the workers that have something to say or are dead."""
        said = wait([worker.connection for worker in self._workers], timeout=_LOOK_SECONDS)
        return [worker for worker in self._workers if worker.connection in said or not worker.process.is_alive()]

    def _stop(self, interrupt: bool = False) -> None:
        """End all workers: those at work are interrupted, and killed when they take too long or the user does."""
        workers, self._workers = self._workers, []
        if interrupt and any(worker.cell for worker in workers):
            _say("Stopping the runs at work (Ctrl-C again kills them) …")
        try:
            for worker in workers:
                worker.leave(interrupt)
            until = time.monotonic() + interruption.STOP_SECONDS
            for worker in workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:
            for worker in workers:
                worker.bury(0)


class _Worker:
    """One process, seen from the sweep: what it works on, and what it did last."""

    def __init__(self, task: Task, prepare: Callable[[], None], jobs: int) -> None:
        context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads or CUDA may hang
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, task, prepare, jobs))
        with _no_interrupt():
            self.process.start()
        theirs.close()
        self.ready = False
        self.dead = False
        self.cell: Cell | None = None  # at work
        self.last: Cell | None = None  # what its memory knows best

    def give(self, cell: Cell) -> None:
        """Let the process work on a cell."""
        self.cell = self.last = cell
        with suppress(OSError):  # it is dead: the next look finds out
            self.connection.send(cell)

    def receive(self) -> tuple[Cell | None, Outcome | None]:
        """Return the cell at work and its outcome: neither when the process got ready, no outcome when it is dead."""
        cell, self.cell = self.cell, None
        try:
            if not self.connection.poll() and not self.process.is_alive():
                raise EOFError
            outcome = self.connection.recv()
        except (EOFError, OSError):
            self.dead = True
            return cell, None
        self.ready = True
        return cell, outcome

    def leave(self, interrupt: bool) -> None:
        """Tell the process that there is no more to do, or that even what it does is not wanted."""
        if interrupt and self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, signal.SIGINT)
        self.connection.close()

    def bury(self, seconds: float = 5.0) -> str:
        """Make sure that the process is gone, and return how it ended."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(connection: Connection, task: Task, prepare: Callable[[], None], jobs: int) -> None:
    """Run cells until there are no more; what a worker process does."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        _be_a_worker(jobs)
        prepare()
        connection.send(None)
        while True:
            connection.send(task(connection.recv()))
    except (EOFError, OSError):  # the sweep has no more, or is gone
        return
    except KeyboardInterrupt:
        sys.exit(interruption.exit_code())


def _be_a_worker(jobs: int) -> None:
    """Leave Ctrl-C to the sweep, and the cores to the other workers."""
    os.setsid()  # the terminal interrupts the sweep alone, which passes it on, once
    interruption.interrupt_once()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    share_the_machine(jobs)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Keep Ctrl-C waiting: a process that starts inherits this, until it can tell what an interrupt is."""
    resource_tracker.ensure_running()  # starting it, as the first process would, lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

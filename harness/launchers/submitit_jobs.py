"""`launcher=slurm` through submitit: jobs of a cluster or, as its stand-in, processes of this machine.

A job runs one cell, or `launcher.runs_per_job` of them. What a job that died had finished is found in the store.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import submitit
from omegaconf import DictConfig, OmegaConf
from submitit.core.utils import FailedJobError, UncompletedJobError

from harness import interruption
from harness.grid import Cell
from harness.launchers.away import Away, deaf_to_interrupts, found_instead
from harness.runs import devices
from harness.runs.outcome import Outcome

Job: TypeAlias = "submitit.Job[list[Outcome]]"

_REMEDIES = {
    "OUT_OF_MEMORY": "raise launcher.memory_gib or lower method.batch_size, trainer.eval_batch_size or preprocess.size",
    "TIMEOUT": "raise launcher.minutes",
}


class InJob:
    """Runs cells in a job, and knows why one ends early.

    submitit's handler of the signal that announces a job's end raises an exception wherever the run happens to be, in
    the middle of an import for example, so what the run says of it can be anything.

    Args:
        away: runs cells in the process of the job.
        minutes: time limit of the job.
    """

    def __init__(self, away: Away, minutes: int) -> None:
        self._away, self._minutes = away, minutes

    def __call__(self, cells: Sequence[Cell]) -> list[Outcome]:
        """Run cells one after the other, none after the end has been announced."""
        announced = _note_announcement()
        out_of_time = Outcome("failed", reason=f"Its job had {self._minutes} minutes: raise launcher.minutes.")
        outcomes = []
        for cell in cells:
            (outcome,) = [out_of_time] if announced else self._away([cell])
            outcomes.append(out_of_time if announced and outcome.status == "failed" else outcome)
        return outcomes

    def checkpoint(self, cells: Sequence[Cell]) -> submitit.helpers.DelayedSubmission:
        """Return what submitit queues again for a job that the cluster preempts: the same cells, finished ones skipped.

        The name is submitit's.
        """
        return submitit.helpers.DelayedSubmission(self, cells)


def _note_announcement() -> list[int]:
    """Return a list that gets the signal that announces the end of this job, before submitit acts on it."""
    announced: list[int] = []
    number = submitit.JobEnvironment()._usr_sig()
    handler: Any = signal.getsignal(number)

    def note(received: int, frame: FrameType | None) -> None:
        announced.append(received)
        if callable(handler):
            handler(received, frame)

    signal.signal(number, note)
    return announced


class Jobs:
    """Runs cells as jobs; use as a context: jobs that are left when it ends are cancelled.

    Args:
        settings: configuration of the sweep.
        jobs: jobs at once.
        away: runs cells in a job.
        find: returns the outcome of a cell that is finished in the store.
    """

    executor: str  # of submitit's
    poll_seconds: float

    def __init__(self, settings: DictConfig, jobs: int, away: Away, find: Callable[[Cell], Outcome | None]) -> None:
        self.settings, self.jobs, self._find = settings.launcher, jobs, find
        self._in_job = InJob(away, self.settings.minutes)
        # Job scripts, logs, and what is sent to jobs and back; on a cluster all hosts share it. Each sweep has its own.
        self._folder = Path(settings.tracking.directory).resolve() / "submitit" / uuid.uuid4().hex[:8]
        self.open: dict[Job, Sequence[Cell]] = {}
        logging.getLogger("submitit").setLevel(logging.ERROR)

    def room(self) -> int:
        """Return how many jobs may be submitted now."""
        raise NotImplementedError

    def watch(self) -> None:
        """Look after open jobs, while none has ended."""

    def is_over(self, job: Job) -> bool:
        """Whether a job has ended."""
        return job.done()

    def has_told(self, job: Job) -> bool:
        """Whether a job that has ended left a result, which may have to travel."""
        return job.paths.result_pickle.exists()

    def cancel(self) -> None:
        """End all open jobs."""
        raise NotImplementedError

    def __enter__(self) -> Jobs:
        self._folder.mkdir(parents=True, mode=0o700)  # an override with a password may be in it
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.open:
                print(f"Cancelling {len(self.open)} jobs …", file=sys.stderr, flush=True)
                self.cancel()
        finally:  # whatever comes between
            self._tidy()

    def _tidy(self) -> None:
        """Delete what was sent to jobs and back; logs of those that were lost stay."""
        for file in (path for path in self._folder.rglob("*") if not path.is_dir() and "_log." not in path.name):
            file.unlink(missing_ok=True)
        for folder in (*self._folder.glob("*/"), self._folder, self._folder.parent):
            with suppress(OSError):
                folder.rmdir()

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Yield every cell with its outcome, as their jobs end."""
        each = self.settings.runs_per_job
        waiting = deque(cells[i : i + each] for i in range(0, len(cells), each))
        while waiting or self.open:
            while number := min(len(waiting), self.room()):
                groups = [waiting.popleft() for _ in range(number)]
                try:
                    self._submit(groups)
                except Exception as error:  # submitit's, the system's
                    failed = Outcome("failed", reason=f"Its job was not taken: {_last_line(str(error))}")
                    yield from ((cell, failed) for group in groups for cell in group)
            ended = [job for job in self.open if self.is_over(job)]
            for job in ended:
                yield from self._collect(job, self.open.pop(job))
            if not ended:
                self.watch()
                time.sleep(self.poll_seconds)

    def parameters(self) -> dict[str, Any]:
        """Return what a job is given, as submitit names it."""
        own: Any = OmegaConf.to_container(self.settings, resolve=True)
        return {
            "name": "harness",
            "timeout_min": own["minutes"],
            "cpus_per_task": own["cpus"],
            "gpus_per_node": own["gpus"],
            "mem_gb": own["memory_gib"],
            f"{self.executor}_setup": own["setup"] or None,
        }

    def _submit(self, groups: Sequence[Sequence[Cell]]) -> None:
        executor = submitit.AutoExecutor(self._folder / "%j", self.executor, slurm_max_num_timeout=0)
        executor.update_parameters(**self.parameters())
        # In a sweep that is itself a job, the variables of that one would be taken for settings of the new ones.
        clean = submitit.helpers.clean_env() if "SLURM_JOB_ID" in os.environ else nullcontext()
        with interruption.held():  # what is submitted has to be known, or nobody could take it back
            with clean, deaf_to_interrupts():  # SIGINT would end submitit's own process with a traceback
                jobs = executor.map_array(self._in_job, groups)
            self.open |= zip(jobs, groups, strict=True)

    def _collect(self, job: Job, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Yield what became of a job's cells; one that tells nothing may have finished some."""
        outcomes = None
        if self.has_told(job):
            with suppress(UncompletedJobError, FailedJobError):
                outcomes = job.result()
        if outcomes is not None:
            shutil.rmtree(job.paths.folder, ignore_errors=True)
            yield from zip(cells, outcomes, strict=True)
            return
        failed = Outcome("failed", reason=_told(job))
        for cell in cells:
            yield cell, found_instead(self._find, cell, failed)


class JobsHere(Jobs):
    """Processes of this machine, started one by one."""

    executor = "local"
    poll_seconds = 0.5

    def room(self) -> int:
        """Return whether one more process may run: those of a group that cannot all be started would not be known."""
        return int(len(self.open) < self.jobs)

    def parameters(self) -> dict[str, Any]:
        """Return what a process is given; GPUs that are not asked for are hidden from it."""
        own = super().parameters()
        return own if own["gpus_per_node"] is not None else own | {"gpus_per_node": devices.visible()}

    def cancel(self) -> None:
        """Interrupt submitit's processes, which pass it on, and kill whatever of a job takes too long.

        The first process of a job with commands of its own is a shell, which passes nothing on.
        """
        started = _with_descendants({int(job.job_id) for job in self.open if not job.done()})
        try:
            _send(signal.SIGTERM, [number for number in started if "submitit.local._local" in _command_of(number)])
            until = time.monotonic() + interruption.STOP_SECONDS
            while time.monotonic() < until and not (all(job.done() for job in self.open) and not _alive(started)):
                time.sleep(0.1)
        finally:
            _send(signal.SIGKILL, _alive(started))


def _command_of(number: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_text(errors="replace")
    return ""


def _processes() -> dict[int, tuple[int, str]]:
    """Return parent and time of start of every process that is not dead, by its number, as Linux lists them."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *rest = file.read_text().rpartition(")")[2].split()
            if state != "Z":
                found[int(file.parent.name)] = int(parent), rest[17]
    return found


def _with_descendants(numbers: set[int]) -> dict[int, str]:
    """Return when processes were started, with their children and children's children, by number."""
    processes = _processes()
    found = set(numbers)
    while more := {number for number, (parent, _) in processes.items() if parent in found} - found:
        found |= more
    return {number: processes.get(number, (0, ""))[1] for number in found}


def _alive(started: Mapping[int, str]) -> set[int]:
    """Return which of these processes are alive; a number may have become that of another one."""
    processes = _processes()
    return {number for number, when in started.items() if number in processes and processes[number][1] == when}


def _send(number: signal.Signals, processes: Iterable[int]) -> None:
    for process in processes:
        with suppress(OSError):
            os.kill(process, number)


def _told(job: Job) -> str:
    """Return why a job has no result, as far as it is known."""
    state = "" if job.state in ("UNKNOWN", "FINISHED") else job.state
    log = job.paths.stderr
    last = _last_line(log.read_text(errors="replace")) if log.exists() else ""
    remedy = _REMEDIES.get(state.split(" ")[0], "run the same command again")
    return (
        f"Its job {job.job_id} ended without a result{f' ({state})' if state else ''}: {remedy}. "
        f"Its log {log} ends with: {last or 'nothing'}"
    )


def _last_line(text: str) -> str:
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "")

"""Jobs of a Slurm cluster: handed in at once, as job arrays of which `launcher.jobs` jobs run."""

from __future__ import annotations

import getpass
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from harness import interruption
from harness.launchers.submitit_jobs import Job, Jobs

_ARRAY = 1000  # jobs: what Slurm takes in one array unless its administrator says otherwise
_LOOK_SECONDS = 30.0  # between looks at the queue
_HARMLESS = {"None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime"}
_ADVICE = {
    "PartitionTimeLimit": "they would never start: lower launcher.minutes",
    "PartitionConfig": "the partition has no such node or does not allow it: look at launcher.*",
}


class SlurmJobs(Jobs):
    """Jobs of a Slurm cluster."""

    executor = "slurm"
    poll_seconds = 5.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._next_look = 0.0
        self._reasons: set[str] = set()
        self._missing: Counter[str] = Counter()  # job -> looks at the queue in which it was not there

    def room(self) -> int:
        """Return the size of the next array; there is one at a time, for each has a limit of its own."""
        return 0 if self.open else _ARRAY

    def parameters(self) -> dict[str, Any]:
        """Return what a job is given, as submitit names it."""
        own: Any = OmegaConf.to_container(self.settings, resolve=True)
        return super().parameters() | {
            "slurm_partition": own["partition"],
            "slurm_account": own["account"],
            "slurm_array_parallelism": self.jobs,
            "slurm_signal_delay_s": min(90, 15 * own["minutes"]),  # before its end that a job is warned
            "slurm_additional_parameters": own["sbatch"],
        }

    def watch(self) -> None:
        """Look at the queue now and then: which jobs are no longer there, and why others wait."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        queue = look_at_queue()
        if queue is None:
            return
        for job in self.open:  # one that is queued again was away for a moment
            self._missing[job.job_id] = 0 if job.job_id in queue else self._missing[job.job_id] + 1
        waiting = [queue[job.job_id] for job in self.open if job.job_id in queue]
        reasons = Counter(reason for state, reason in waiting if state == "PENDING")
        for reason in sorted(reasons.keys() - self._reasons - _HARMLESS):
            advice = _ADVICE.get(reason, "`squeue --me` shows them")
            print(f"Slurm lets {reasons[reason]} jobs wait: {reason} ({advice}).", file=sys.stderr, flush=True)
        self._reasons = set(reasons)

    def is_over(self, job: Job) -> bool:
        """Whether a job has ended, by its result, by Slurm's accounting or, where there is none, by its queue."""
        return job.done() or self._is_gone(job)

    def has_told(self, job: Job) -> bool:
        """Whether a job left a result; on shared storage this may show late, which submitit waits for."""
        return super().has_told(job) or not self._is_gone(job)

    def cancel(self) -> None:
        """Take back jobs that wait, interrupt those at work, and end those that take too long or the user does."""
        ids = [job.job_id for job in self.open]
        try:
            _scancel("--state=PENDING", *ids)
            _scancel("--signal=INT", *ids)
            until = time.monotonic() + interruption.STOP_SECONDS
            while time.monotonic() < until and not self._all_left(ids):
                time.sleep(1)
        finally:
            _scancel(*ids)

    def _all_left(self, ids: Sequence[str]) -> bool:
        """Whether the queue has none of these jobs any more."""
        queue = look_at_queue()
        return queue is not None and queue.keys().isdisjoint(ids)

    def _is_gone(self, job: Job) -> bool:
        return self._missing[job.job_id] > 1


def look_at_queue() -> dict[str, tuple[str, str]] | None:
    """Return state and reason of every job of this user that waits or runs, by id; None when Slurm does not answer.

    An array's jobs each have an id of their own: 17_0, 17_1.
    """
    command = ["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T|%r"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    rows = (line.split("|", 2) for line in done.stdout.splitlines())
    return {job: (state, reason) for job, state, reason in rows}


def _scancel(*arguments: str) -> None:
    subprocess.run(["scancel", "--quiet", *arguments], capture_output=True, check=False)

"""`launcher=ray`: tasks of a Ray cluster, or of one on this machine that lives as long as the sweep.

Ray starts a task whose process dies once more, by itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from harness import interruption
from harness.errors import ConfigError
from harness.grid import Cell
from harness.launchers.away import Away, deaf_to_interrupts, found_instead
from harness.launchers.stores import refuse_local_store
from harness.runs import devices
from harness.runs.outcome import Outcome
from harness.schema import one_line

# Ray reads them when it is imported or started.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without GPUs of its own may look for some
os.environ.setdefault("RAY_task_oom_retries", "1")  # by itself Ray kills and restarts what is too large for ever

import ray
from ray.exceptions import OutOfMemoryError, RayError

_OBJECT_STORE_BYTES = 100 * 2**20  # of a local cluster: settings and outcomes are small
_MEMORY = (
    "Ray ended its process for want of memory: lower launcher.jobs, method.batch_size, trainer.eval_batch_size or "
    "preprocess.size."
)


class RayTasks:
    """Runs cells as tasks; use as a context, at whose end tasks are cancelled and a local cluster is stopped.

    Args:
        settings: configuration of the sweep.
        jobs: tasks at once.
        away: runs cells in a task.
        find: returns the outcome of a cell that is finished in the store.
    """

    def __init__(self, settings: DictConfig, jobs: int, away: Away, find: Callable[[Cell], Outcome | None]) -> None:
        self._settings, self._launcher, self._jobs, self._find = settings, settings.launcher, jobs, find
        self._away = replace(away, stops=False)
        self._at_work: dict[Any, Cell] = {}

    def __enter__(self) -> RayTasks:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._at_work:
                print(f"Cancelling {len(self._at_work)} tasks …", file=sys.stderr, flush=True)
                for task in self._at_work:
                    ray.cancel(task)
                ray.wait(list(self._at_work), num_returns=len(self._at_work), timeout=interruption.STOP_SECONDS)
        finally:
            ray.shutdown()

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        """Yield every cell with its outcome, as their tasks end."""
        try:
            self._connect()
        except ConfigError as error:
            yield from ((cell, Outcome("failed", reason=str(error))) for cell in cells)
            return
        away = ray.put(self._away)
        wanted = {"num_cpus": self._launcher.cpus, "num_gpus": self._gpus(), "max_retries": 1}
        task = ray.remote(_run).options(name="harness", **wanted)
        waiting = deque(cells)
        while waiting or self._at_work:
            while waiting and len(self._at_work) < self._jobs:
                cell = waiting.popleft()
                self._at_work[task.remote(away, cell)] = cell
            for ended in ray.wait(list(self._at_work), num_returns=1)[0]:
                cell = self._at_work.pop(ended)
                yield cell, self._outcome(ended, cell)

    def _connect(self) -> None:
        """Start or reach the cluster, once there is something to run.

        Raises:
            ConfigError: when it is not to be had, or has hosts that cannot share the store.
        """
        if ray.is_initialized():
            return
        where: dict[str, Any] = {"address": self._launcher.address}
        if self._launcher.address is None:
            where = {
                "address": "local",
                "num_cpus": self._jobs * self._launcher.cpus,
                "num_gpus": devices.visible(),
                "object_store_memory": _OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            }
        on_stop = signal.getsignal(signal.SIGTERM)
        try:
            with deaf_to_interrupts():
                ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # Ray's, gRPC's, the system's
            raise ConfigError(f"Ray cannot be started or reached: {one_line(error)[:500]}") from error
        finally:
            signal.signal(signal.SIGTERM, on_stop)  # Ray's own would end the sweep without its summary
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len({node["NodeManagerAddress"] for node in nodes}) > 1:
            refuse_local_store(self._settings.tracking.uri, "The Ray cluster has several hosts")
        wanted = {"CPU": self._launcher.cpus, "GPU": self._gpus()}
        if not any(all(node["Resources"].get(key, 0) >= wanted[key] for key in wanted) for node in nodes):
            print(f"No node of the Ray cluster has {wanted}: runs wait until one joins.", file=sys.stderr, flush=True)

    def _outcome(self, ended: Any, cell: Cell) -> Outcome:
        try:
            outcome: Outcome = ray.get(ended)
        except RayError as error:
            why = _MEMORY if isinstance(error, OutOfMemoryError) else f"Its Ray task died: {one_line(error)[:500]}"
            return found_instead(self._find, cell, Outcome("failed", reason=why))
        return outcome

    def _gpus(self) -> float:
        """Return the GPUs of a task: as asked for, else one where the cluster has some."""
        gpus = self._launcher.gpus
        if gpus is None:
            wanted = self._settings.trainer.device in ("auto", "cuda")
            return 1.0 if wanted and ray.cluster_resources().get("GPU", 0) else 0.0
        return float(gpus)


def _run(away: Away, cell: Cell) -> Outcome:
    return away([cell])[0]

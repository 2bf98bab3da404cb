"""What the tests let real processes do; light to import, for every process does."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness.grid import Cell
from harness.runs.devices import first_free
from harness.runs.outcome import Outcome
from harness.workers import Workers


def do(cell: Cell) -> Outcome:
    """Do what a cell's overrides say, one after the other; the outcome's `run_id` is the process."""
    for name, _, value in (override.partition("=") for override in cell.overrides):
        if name == "sleep":
            time.sleep(float(value))
        elif name == "append":  # a mark in a file, for every time that it happens
            with Path(value).open("a") as file:
                file.write(f"{os.getpid()}\n")
        elif name == "interruptible":
            try:
                Path(value).touch()
                time.sleep(600)
            finally:
                Path(value).with_suffix(".interrupted").touch()
        elif name == "die" or (name == "die_once" and not Path(value).exists()):
            if name == "die_once":
                Path(value).touch()
            os.kill(os.getpid(), signal.Signals[value] if name == "die" else signal.SIGKILL)
    reason = " ".join(f"{key}={os.environ.get(key)}" for key in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "HARNESS_JOBS"))
    return Outcome("finished", run_id=str(os.getpid()), reason=reason)


def nothing() -> None:
    """Need no preparation."""


def break_down() -> None:
    """Die before anything is done."""
    os._exit(3)


def sweep(cells: Sequence[Cell]) -> None:
    """Run cells on two workers: a sweep of its own process."""
    with Workers(2, do, nothing) as workers:
        list(workers.run(cells))


def hold(names: Sequence[str], folder: Path, seconds: float, log: Path) -> None:
    """Hold a device for a while, and write which and from when to when."""
    with first_free(names, folder) as index:
        start = time.monotonic()
        log.with_suffix(".held").touch()
        time.sleep(seconds)
        log.write_text(f"{index} {start} {time.monotonic()} {'torch' in sys.modules}")

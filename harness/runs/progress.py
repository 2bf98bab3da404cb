"""What a run tells while it trains: a live line on a terminal, else a line of text a minute."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from harness.runs.environment import JOBS
from harness.terminal import console, duration, is_terminal

if TYPE_CHECKING:
    from harness.runs.recorder import Report

SHOWN = {
    "train/loss": "loss",
    "test/image_auroc": "image AUROC",
    "test/pixel_auroc": "pixel AUROC",
    "test/aupro": "AUPRO",
}
LINE_SECONDS = 60.0


@contextmanager
def live_line(name: str, epochs: int) -> Iterator[Report]:
    """Show epoch, loss, main metrics and time left of a run while it trains.

    On a terminal that the run has for itself it is one line that changes; for pipes, logs and the runs of worker
    processes, which would write over each other, it is a line a minute, and none of a run that is over before.

    Yields:
        What is to be told every epoch (from 0) and its metrics.
    """
    on_terminal = is_terminal(sys.stderr) and JOBS not in os.environ
    with _changing(name, epochs) if on_terminal else _every_minute(name, epochs) as report:
        yield report


@contextmanager
def _changing(name: str, epochs: int) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=epochs, values="preparing")

        def report(epoch: int, metrics: Mapping[str, float]) -> None:
            progress.update(task, completed=epoch + 1, values=_values(metrics))

        yield report


@contextmanager
def _every_minute(name: str, epochs: int) -> Iterator[Report]:
    lines = _Lines(name, epochs)
    thread = threading.Thread(target=lines.print, daemon=True)
    thread.start()
    try:
        yield lines.report
    finally:
        lines.over.set()
        thread.join()


class _Lines:
    """Prints how far a run is, from a thread of its own: an epoch may take hours."""

    def __init__(self, name: str, epochs: int) -> None:
        self._name, self._epochs = name, epochs
        self._started = time.monotonic()
        self._done, self._metrics, self._done_after = 0, "", 0.0
        self.over = threading.Event()

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._done, self._metrics = epoch + 1, _values(metrics)
        self._done_after = time.monotonic() - self._started

    def print(self) -> None:
        while not self.over.wait(LINE_SECONDS):
            with suppress(OSError):  # nobody reads it: no reason to stop a run
                print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        passed = time.monotonic() - self._started
        told = f"at work for {duration(passed)}"
        if 0 < self._done < self._epochs:
            left = self._done_after / self._done * self._epochs - passed
            told += f", about {duration(max(0.0, left))} to go"
        parts = [self._name, f"epoch {self._done}/{self._epochs}", self._metrics, told]
        return "  ".join(part for part in parts if part)


def _values(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{SHOWN[key]} {metrics[key]:.4f}" for key in SHOWN if key in metrics)

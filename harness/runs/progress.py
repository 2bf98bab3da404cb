"""The live line of a run; nothing when nobody looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.runs.recorder import Report

SHOWN = {
    "train/loss": "loss",
    "test/image_auroc": "image AUROC",
    "test/pixel_auroc": "pixel AUROC",
    "test/aupro": "AUPRO",
}


@contextmanager
def live_line(name: str, epochs: int) -> Iterator[Report]:
    """Show epoch, loss, main metrics and time left of a run while it trains: on a terminal that it has for itself."""
    console = Console(stderr=True)
    shown = console.is_terminal and parent_process() is None  # workers would write over each other's lines
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task(name, total=epochs, values="preparing")

        def report(epoch: int, metrics: Mapping[str, float]) -> None:
            values = "  ".join(f"{SHOWN[key]} {metrics[key]:.4f}" for key in SHOWN if key in metrics)
            progress.update(task, completed=epoch + 1, values=values)

        yield report

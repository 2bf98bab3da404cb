"""What a sweep prints at its end: results, what was skipped, what failed and why, and what to do next."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import mean, stdev

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from harness.grid import Cell
from harness.runs.execute import Outcome
from harness.runs.tracking import masked

METRICS = {"test/image_auroc": "image AUROC", "test/aupro": "AUPRO"}
_CELL_KEYS = ("method", "dataset", "category", "seed", "experiment")

Result = tuple[Cell, Outcome | None]


def conclude(results: Sequence[Result], tracking: DictConfig, interrupted: bool) -> None:
    """Print the summary of a sweep.

    Raises:
        SystemExit: 1 when a cell failed or is missing, 130 after an interrupt.
    """
    console = Console(soft_wrap=False)
    labels = _labels([cell for cell, _ in results])
    done = [(labels[cell], o) for cell, o in results if o is not None and o.status in ("finished", "skipped")]
    for key, title in METRICS.items():
        if any(key in outcome.metrics for _, outcome in done):
            console.print(_table(done, key, title))
    _print_counts(console, results, interrupted)
    _print_failures(console, results)
    _print_next(console, results, tracking)
    if interrupted:
        sys.exit(130)
    if any(outcome is None or outcome.status in ("failed", "busy") for _, outcome in results):
        sys.exit(1)


def _labels(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Name each cell's row: its method, and what else was swept besides data set, category and seed."""
    values: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for override in cell.overrides:
            key, _, value = override.partition("=")
            values[key].add(value)
    swept = [key for key, seen in values.items() if len(seen) > 1 and key not in _CELL_KEYS]
    labels = {}
    for cell in cells:
        own = dict(override.partition("=")[::2] for override in cell.overrides)
        labels[cell] = " ".join(f"{key}={own[key]}" for key in swept if key in own)
    return labels


def _table(done: Sequence[tuple[str, Outcome]], key: str, title: str) -> Table:
    """Return method × category with mean ± sample standard deviation over seeds, in percent."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for label, outcome in done:
        if key in outcome.metrics:
            row = f"{outcome.method} {label}".strip()
            values[row, f"{outcome.dataset}/{outcome.category}"].append(outcome.metrics[key])
    columns = sorted({column for _, column in values})
    table = Table(title=f"{title} in %, last epoch: mean ± std (n seeds)", title_justify="left")
    table.add_column("method", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for row in dict.fromkeys(row for row, _ in values):
        table.add_row(row, *(_cell(values.get((row, column), [])) for column in columns))
    return table


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{spread} ({len(values)})"


def _print_counts(console: Console, results: Sequence[Result], interrupted: bool) -> None:
    counts = Counter(outcome.status if outcome else "not started" for _, outcome in results)
    said = {
        "finished": "run now",
        "skipped": "skipped (finished before)",
        "busy": "at work in another process",
        "failed": "failed",
        "not started": "not started",
    }
    parts = [f"{counts[status]} {text}" for status, text in said.items() if counts[status]]
    start = "Interrupted. " if interrupted else ""
    console.print(f"{start}{len(results)} runs: {', '.join(parts)}.", highlight=False)


def _print_failures(console: Console, results: Sequence[Result]) -> None:
    failed = [(cell, outcome) for cell, outcome in results if outcome is not None and outcome.status == "failed"]
    if not failed:
        return
    table = Table(title="Failed", title_justify="left", show_lines=True)
    table.add_column("run", overflow="fold")
    table.add_column("why", overflow="fold")
    for cell, outcome in failed:
        table.add_row(" ".join(cell.overrides), outcome.reason)
    console.print(table)


def _print_next(console: Console, results: Sequence[Result], tracking: DictConfig) -> None:
    """Say the two commands that a user wants next."""
    experiments = {
        override.partition("=")[2]
        for cell, _ in results
        for override in cell.overrides
        if override.startswith("experiment=")
    }
    report = "python -m harness.report" + "".join(f" experiment={name}" for name in sorted(experiments)[:1])
    if tracking.uri != f"sqlite:///{tracking.directory}/mlflow.db" or tracking.directory != "runs":
        report += f" tracking.uri={masked(tracking.uri)}"
    console.print("Look at the runs:  ", end="")
    console.print(f"mlflow ui --backend-store-uri {masked(tracking.uri)}", style="bold", highlight=False, soft_wrap=True)
    console.print("Write the report:  ", end="")
    console.print(report, style="bold", highlight=False, soft_wrap=True)

"""What a sweep prints at its end: results, what was skipped, what failed and why, and what to do next."""

from __future__ import annotations

import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import interruption, terminal
from harness.grid import Cell
from harness.runs.outcome import Outcome, Status
from harness.uri import masked, shown_argument

METRICS = {"test/image_auroc": "image AUROC", "test/aupro": "AUPRO"}
_CELL_KEYS = ("method", "dataset", "category", "seed", "protocol.fold", "experiment")

_SHOWN = ("test/image_auroc", "test/pixel_auroc", "test/aupro", "test/auspro")

Result = tuple[Cell, Outcome | None]


def described(outcome: Outcome) -> str:
    """Return one line on a run that is done."""
    done = "finished" if outcome.status == "finished" else "skipped: finished before"
    values = "  ".join(f"{key} {outcome.metrics[key]:.4f}" for key in _SHOWN if key in outcome.metrics)
    return f"{outcome.method}/{outcome.dataset}/{outcome.category}/{outcome.seed} {done}  {values}"


class Progress:
    """A line on stderr for every run of a sweep that ends, for logs and for the people who wait.

    What was finished before is counted, but not told: a sweep that goes on would begin with nothing else.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._swept, self._total, self._done = swept_keys(cells), len(cells), 0

    def tell(self, cell: Cell, outcome: Outcome) -> None:
        """Say what became of a cell."""
        if outcome.status == "busy":
            return
        self._done += 1
        count = f"{self._done:>{len(str(self._total))}}/{self._total}"
        if outcome.status == "finished":
            print(f"{count}  {described(outcome)}", file=sys.stderr, flush=True)
        elif outcome.status in ("failed", "impossible"):
            reason = outcome.reason.partition("\n")[0]
            print(f"{count}  {name_of(cell, self._swept)} {outcome.status}: {reason}", file=sys.stderr, flush=True)


def conclude(results: Sequence[Result], tracking: DictConfig, requested: Sequence[str], interrupted: bool) -> None:
    """Print the summary of a sweep.

    Args:
        results: every cell of the grid, with what became of it.
        tracking: where the runs are.
        requested: the overrides of the command line.
        interrupted: whether Ctrl-C ended it.

    Raises:
        SystemExit: 1 when a cell failed or is missing, 130 after an interrupt.
    """
    console = terminal.console()
    swept = swept_keys([cell for cell, _ in results])
    done = [(_row(cell, o, swept), o) for cell, o in results if o is not None and o.status in ("finished", "skipped")]
    if done:
        console.print(f"Last epoch, mean ± sample standard deviation ({_counted(swept)}):")
    for key, title in METRICS.items():
        if any(key in outcome.metrics for _, outcome in done):
            console.print(_fitting(console, done, key, title))
    _print_counts(console, results, interrupted)
    _print_reasons(console, results, swept, "impossible", "not possible")
    _print_reasons(console, results, swept, "failed", "failed")
    _print_next(console, tracking, requested)
    if interrupted:
        sys.exit(interruption.exit_code())
    if any(outcome is None or outcome.status in ("failed", "busy") for _, outcome in results):
        sys.exit(1)


def swept_keys(cells: Sequence[Cell]) -> list[str]:
    """Return the keys whose values differ between cells."""
    values: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for key, value in _assignments(cell).items():
            values[key].add(value)
    return [
        key for key, seen in values.items() if len(seen) > 1 or any(key not in _assignments(cell) for cell in cells)
    ]


def name_of(cell: Cell, swept: Sequence[str]) -> str:
    """Name a cell by what it does not share with the others."""
    named = {key: value for key, value in _assignments(cell).items() if key in swept or not swept}
    return " ".join(shown_argument(f"{key}={value}") for key, value in named.items())


def _row(cell: Cell, outcome: Outcome, swept: Sequence[str]) -> str:
    """Name a cell's row: the method as it was asked for, and what else was swept but data set, category and seed."""
    own = _assignments(cell)
    settings = [f"{key}={own[key]}" for key in swept if key in own and key not in _CELL_KEYS]
    return " ".join([own.get("method", outcome.method), *settings])


def _counted(swept: Sequence[str]) -> str:
    """Return what the number in parentheses counts: seeds, unless folds were swept, or both."""
    if "protocol.fold" not in swept:
        return "number of seeds"
    return "number of runs: seeds × folds" if "seed" in swept else "number of folds"


def _assignments(cell: Cell) -> dict[str, str]:
    return {key: value for key, _, value in (override.partition("=") for override in cell.overrides)}


def _fitting(console: Console, done: Sequence[tuple[str, Outcome]], key: str, title: str) -> Table:
    """Return the table with methods as rows; where that is wider than the console categories; else one mean a line."""
    values = _values(done, key)
    free = console.options.update(width=terminal.WIDE)
    for table in (_table(values, title), _table(values, title, turned=True)):
        if console.measure(table, options=free).maximum <= console.width:
            return table
    return _listed(values, title)


def _values(done: Sequence[tuple[str, Outcome]], key: str) -> dict[tuple[str, str], dict[str, float]]:
    """Return a metric by row and category, by run key: a run that several cells ask for counts once."""
    values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row, outcome in done:
        if key in outcome.metrics:
            values[row, f"{outcome.dataset}/{outcome.category}"][outcome.run_key] = outcome.metrics[key]
    return values


def _table(values: Mapping[tuple[str, str], Mapping[str, float]], title: str, turned: bool = False) -> Table:
    """Return method × category with mean ± sample standard deviation over seeds, in percent."""
    methods, categories = list(dict.fromkeys(row for row, _ in values)), sorted({column for _, column in values})
    rows, columns = (categories, methods) if turned else (methods, categories)
    table = Table()
    table.add_column(f"{title} %", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        cells = [values.get((column, row) if turned else (row, column), {}) for column in columns]
        table.add_row(row, *(_cell(list(cell.values())) for cell in cells))
    return table


def _listed(values: Mapping[tuple[str, str], Mapping[str, float]], title: str) -> Table:
    """Return the same with a line for each method and category, for long names on a narrow terminal."""
    table = Table()
    for column in ("method", "category"):
        table.add_column(column, overflow="fold")
    table.add_column(f"{title} %", justify="right", no_wrap=True)
    for (row, category), cell in values.items():
        table.add_row(row, category, _cell(list(cell.values())))
    return table


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return terminal.spelled(f"{100 * mean(values):.2f}{spread} ({len(values)})")


def _print_counts(console: Console, results: Sequence[Result], interrupted: bool) -> None:
    counts = Counter(outcome.status if outcome else "not started" for _, outcome in results)
    said = {
        "finished": "computed now",
        "skipped": "skipped (finished before)",
        "busy": "at work in another process",
        "impossible": "not possible with these images",
        "failed": "failed",
        "not started": "not started",
    }
    parts = [f"{counts[status]} {text}" for status, text in said.items() if counts[status]]
    start = "Interrupted. " if interrupted else ""
    console.print(f"{start}{terminal.counted(len(results))}: {', '.join(parts)}.")


def _print_reasons(
    console: Console, results: Sequence[Result], swept: Sequence[str], status: Status, title: str
) -> None:
    """Print each reason once, with the runs that it stopped."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for cell, outcome in results:
        if outcome is not None and outcome.status == status:
            reasons[outcome.reason].append(name_of(cell, swept))
    if not reasons:
        return
    table = Table(show_lines=True)
    table.add_column(title, overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    for reason, runs in reasons.items():
        table.add_row(Text("\n".join(runs)), Text(reason))
    console.print(table, width=min(console.width, terminal.READABLE))


def _print_next(console: Console, tracking: DictConfig, requested: Sequence[str]) -> None:
    """Say the two commands that a user wants next."""
    uri = masked(tracking.uri)
    interface = uri if uri.startswith("http") else shlex.join(["mlflow", "ui", "--backend-store-uri", uri])
    report = ["python", "-m", "harness.report"]
    if experiments := [override for override in requested if override.startswith("experiment=")]:
        several = "," in experiments[-1]  # a report is of one experiment
        named = ["experiment=NAME" if several and o in experiments else o for o in requested]
        report += [override for override in named if not override.lstrip("+~").startswith("tracking.")]
    if tracking.directory != "runs":
        report += [f"tracking.directory={tracking.directory}"]
    if tracking.uri != f"sqlite:///{tracking.directory}/mlflow.db":
        report += [f"tracking.uri={uri}"]
    for title, text in (("Look at the runs: ", interface), ("Write the report: ", shlex.join(report))):
        console.print(Text(f"{title} ").append(text, style="bold"), soft_wrap=True)

"""The audit's result, for people and for scripts."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.audit.comparison import COMPARED, FIRST, Audited, Compared
from harness.runs.environment import libraries

_TITLE = "Largest absolute difference to the first run, over all metrics of all epochs and all image scores"
_MISSING = "only one run has it"


def show(audited: Sequence[Audited], console: Console) -> None:
    """Print the largest difference of every cell in every circumstance, and of each metric that differs."""
    console.print(f"{_TITLE}:")
    head, *rows = _overview(audited)
    console.print(_table(head, rows))
    if differing := list(_differing(audited)):
        console.print(_table(("run", "metric", "largest difference", "in"), differing))
    for sentence in _conclusion(audited):
        console.print(sentence, soft_wrap=True)


def _overview(audited: Sequence[Audited]) -> Iterator[tuple[str, ...]]:
    """Yield the head of a table and its rows: each run in all circumstances, and how many values were compared."""
    yield ("run", *(circumstance.name for circumstance in COMPARED), "values")
    for one in audited:
        values = max((len(compared.differences) for compared in one.compared.values()), default=0)
        yield (one.name, *(_cell(one.compared.get(circumstance)) for circumstance in COMPARED), str(values))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for number, title in enumerate(head):
        table.add_column(title, overflow="fold", justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _cell(compared: Compared | None) -> str:
    if compared is None:
        return "–"
    if compared.failed:
        return "failed"
    return compared.note or ("exact" if compared.exact else _gap(compared.largest[1]))


def _gap(gap: float) -> str:
    return _MISSING if math.isinf(gap) else f"{gap:.1e}"


def _differing(audited: Sequence[Audited]) -> Iterator[tuple[str, str, str, str]]:
    """Yield cell, metric, largest difference and where, of every metric that should be exact and is not."""
    for one in audited:
        found: dict[str, tuple[float, str]] = {}
        for circumstance, compared in one.compared.items():
            for metric, gap in compared.differences.items() if circumstance.must_agree else ():
                if gap > found.get(metric, (0.0, ""))[0]:
                    found[metric] = gap, circumstance.name
        for metric, (gap, where) in found.items():
            yield one.name, metric, _gap(gap), where


def _conclusion(audited: Sequence[Audited]) -> Iterator[str]:
    for one in audited:
        for compared in one.compared.values():
            if compared.failed:
                yield f"{one.name}: {compared.circumstance.name} failed: {compared.note}"
    exact = [one for one in audited if all(c.exact for c in one.compared.values() if c.circumstance.must_agree)]
    devices = sorted({one.device for one in audited if one.device})
    if not devices:  # which the first run of each tells
        yield "No run could be audited."
        return
    are, they = ("run is", "it") if len(audited) == 1 else ("runs are", "they")
    yield f"{len(exact)} of {len(audited)} {are} exact wherever {they} should be, on {', '.join(devices)}."
    if any(not c.exact for one in audited for c in one.compared.values() if not c.circumstance.must_agree):
        yield "More threads add numbers in another order: what they change is told, and is no failure."
    if any(not one.on_cpu for one in audited):
        yield "Differences on a GPU are told, and are no failure."


def write_json(audited: Sequence[Audited], path: Path) -> None:
    """Write everything that was compared; a difference is null where only one of two runs has a value."""
    tree = [
        {
            "run": one.name,
            "device": one.device,
            "faults": [compared.circumstance.name for compared in one.faults],
            "comparisons": [
                {
                    "with": compared.circumstance.name,
                    "must_agree": compared.circumstance.must_agree,
                    "failed": compared.failed,
                    "note": compared.note,
                    "differences": {k: None if math.isinf(v) else v for k, v in compared.differences.items()},
                }
                for compared in one.compared.values()
            ],
        }
        for one in audited
    ]
    path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def write_csv(audited: Sequence[Audited], path: Path) -> None:
    """Write a row a cell, circumstance and metric."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "comparison", "metric", "difference"])
        for one in audited:
            for circumstance, compared in one.compared.items():
                if circumstance is not FIRST:
                    rows.writerows([one.name, circumstance.name, *item] for item in compared.differences.items())


def write_markdown(audited: Sequence[Audited], path: Path) -> None:
    """Write the largest differences, what they come to, and the libraries that computed the numbers."""
    head, *rows = _overview(audited)
    lines = [f"{_TITLE}.", "", "| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines += ["", *_conclusion(audited), "", f"{libraries()}."]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

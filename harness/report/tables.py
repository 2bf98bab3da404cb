"""Lay out summaries as tables of formatted cells; nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.report.measures import OPTIMISM, Measure

RULE = (
    "Bold: the best mean of a row and every mean that Welch's two-sided t-test, seed by seed, does not separate "
    "from it at the 5 % level (no correction for the number of comparisons)."
)


@dataclass(frozen=True)
class Cell:
    """One number as it is printed: `mean ± std note`, std and note possibly empty."""

    mean: str
    std: str = ""
    note: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """One category, or the mean over a data set's categories."""

    group: str
    label: str
    cells: tuple[Cell | None, ...]
    is_mean: bool = False


@dataclass(frozen=True)
class Table:
    """What Markdown and LaTeX are rendered from, and the tidy numbers behind it."""

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    numbers: pd.DataFrame


def layout(measure: Measure, numbers: pd.DataFrame, labels: Sequence[str], always: Sequence[str] = ()) -> Table:
    """Return the table of a summary: categories grouped by data set down, methods across.

    Args:
        measure: what is tabulated.
        numbers: the summary of :func:`harness.report.summary.summarise`.
        labels: the columns, in order; those without any number are left out,
        always: except for these.
    """
    columns = tuple(label for label in labels if label in {*numbers["label"], *always})
    usual = _usual_n(numbers)
    digits = _digits(numbers, measure)
    rows = []
    for (dataset, is_mean, category), group in numbers.groupby(["dataset", "is_mean", "category"], sort=True):
        by_label = {cell["label"]: cell for cell in group.to_dict("records")}
        cells = tuple(_cell(by_label[c], digits, usual) if c in by_label else None for c in columns)
        rows.append(Row(str(dataset), str(category), cells, bool(is_mean)))
    return Table(measure.name, measure.title, _caption(measure, numbers, usual), columns, tuple(rows), numbers)


def _cell(number: Mapping[Any, Any], digits: int, usual: int) -> Cell:
    mean, n = f"{number['mean']:.{digits}f}", int(number["n"])
    if n == 0:
        return Cell(mean, note="‡")
    if n == 1:
        return Cell(mean, note="" if usual == 1 else "†")
    return Cell(mean, f"{number['std']:.{digits}f}", "" if n == usual else f"(n={n})", bool(number["best"]))


def _usual_n(numbers: pd.DataFrame) -> int:
    """Return the number of seeds that most cells of several seeds have, the larger one of a tie; else 1."""
    several = numbers.loc[numbers["n"] > 1, "n"]
    return 1 if several.empty else int(several.mode().max())


def _digits(numbers: pd.DataFrame, measure: Measure) -> int:
    """Return one decimal for percent, two where a deviation would print as 0.0; three figures for other units."""
    if measure.scale == 100.0:
        return 2 if ((numbers["std"] > 0.0) & (numbers["std"] < 0.05)).any() else 1
    largest = numbers["mean"].abs().max()
    return min(3, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 1


def _caption(measure: Measure, numbers: pd.DataFrame, usual: int) -> str:
    over = "one seed" if usual == 1 else f"mean ± sample standard deviation (ddof 1) over {usual} seeds"
    unit = "percent" if measure.unit == "%" else measure.unit
    parts = [f"{measure.title}, in {unit}: {over}{', last epoch' if measure.tested else ''}."]
    if measure == OPTIMISM:
        parts = [
            f"What choosing the best epoch on the test set would add to image AUROC, in {measure.unit}: oracle minus "
            f"last epoch; {over}. Trainable methods only; nothing else in this report uses the oracle."
        ]
    if measure.tested:
        testable = (numbers.assign(ok=numbers["n"] > 1).groupby(["dataset", "category"])["ok"].sum() > 1).any()
        parts.append(RULE if testable else "Too few methods have two or more seeds: no test, nothing in bold.")
    elif measure != OPTIMISM:
        parts.append("Not tested, for it depends on the machine.")
    if usual > 1 and (numbers["n"] == 1).any():
        parts.append("†: one seed, hence no deviation, no test and never bold.")
    if ((numbers["n"] != usual) & (numbers["n"] > 1)).any():
        parts.append(f"(n=…): seeds of a cell that has not {usual}.")
    if (numbers["n"] == 0).any():
        parts.append("‡: no seed has all categories; the mean of their means, without deviation or test.")
    if numbers["is_mean"].any():
        parts.append(
            "Mean rows average the categories within each seed that has them all; their ± is over these seed means."
        )
    return " ".join(parts)

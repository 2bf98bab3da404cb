"""Lay out summaries as tables of formatted cells; nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.report.captions import rule, signs, spread, usual_n
from harness.report.measures import COUNT, OPTIMISM, Measure
from harness.report.variants import by_value

RESULTS, SELECTIONS = "Results", "Choosing the epoch"  # sections of the page
PLACE = ["dataset", "is_mean", "category"]


@dataclass(frozen=True)
class Cell:
    """One number as it is printed: `mean ± std note`, std and note possibly empty."""

    mean: str
    std: str = ""
    note: str = ""
    bold: bool = False
    underlined: bool = False  # better than what it is to be compared with


@dataclass(frozen=True)
class Row:
    """One category, or the mean over a data set's categories; `more` is what else leads the row (a method)."""

    group: str
    label: str
    cells: tuple[Cell | None, ...]
    is_mean: bool = False
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """What Markdown and LaTeX are rendered from, and the tidy numbers behind it."""

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    numbers: pd.DataFrame
    section: str = RESULTS
    heads: tuple[str, ...] = ("Category",)  # over a row's label and what else leads it
    of: str = "method"  # what a number's label is, over its column in the CSV


def layout(measure: Measure, numbers: pd.DataFrame, labels: Sequence[str], always: Sequence[str] = ()) -> Table:
    """Return the table of a summary: categories grouped by data set down, methods across.

    Args:
        measure: what is tabulated.
        numbers: the summary of :func:`harness.report.summary.summarise`.
        labels: the columns, in order; those without any number are left out,
        always: except for these.
    """
    columns = tuple(label for label in labels if label in {*numbers["label"], *always})
    usual, digits = usual_n(numbers), digits_of(numbers, measure)
    rows = []
    for (dataset, is_mean, category), group in places(numbers):
        by_label = {cell["label"]: cell for cell in group.to_dict("records")}
        cells = tuple(cell_of(by_label[c], digits, usual) if c in by_label else None for c in columns)
        rows.append(Row(str(dataset), str(category), cells, bool(is_mean)))
    caption = _caption(measure, numbers, usual)
    section = SELECTIONS if measure == OPTIMISM else RESULTS
    return Table(measure.name, measure.title, caption, columns, tuple(rows), numbers, section)


def tall(
    name: str,
    title: str,
    section: str,
    caption: str,
    measures: Sequence[Measure],
    numbers: pd.DataFrame,
    labels: Sequence[str],
) -> Table:
    """Return a table of several measures: categories and under each the methods down, measures across.

    Args:
        name: of its files.
        title: its heading.
        section: of the page.
        caption: what the measures are; seeds or folds, tests and signs are told by themselves.
        measures: the columns, in order.
        numbers: their summaries, of :func:`harness.report.summary.summarise_all`.
        labels: the methods, in order.
    """
    usual = usual_n(numbers)
    digits = {m.key: digits_of(numbers[numbers["measure"] == m.key], m) for m in measures}
    rows = []
    for (dataset, is_mean, category), group in places(numbers):
        found = {(cell["label"], cell["measure"]): cell for cell in group.to_dict("records")}
        for label in labels:
            cells = [cell_of(found[label, k], digits[k], usual) if (label, k) in found else None for k in digits]
            if any(cells):
                rows.append(Row(str(dataset), str(category), tuple(cells), bool(is_mean), (label,)))
    tested = numbers[numbers["measure"].isin([m.key for m in measures if m.tested])]
    parts = [caption, f"Each number: {spread(usual)}."]
    parts += [rule(tested, "a category, in each column,")] if len(tested) else []
    text = " ".join([*parts, *signs(numbers, usual)])
    columns = tuple(m.title for m in measures)
    return Table(name, title, text, columns, tuple(rows), numbers, section, ("Category", "Method"))


def places(numbers: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """Return the numbers of each row by data set, is_mean and category, data sets in the order of values in them."""
    found: list[tuple[Any, pd.DataFrame]] = list(numbers.groupby(PLACE, sort=True))
    return sorted(found, key=lambda item: by_value(str(item[0][0])))


def cell_of(number: Mapping[Any, Any], digits: int, usual_of: Mapping[str, int]) -> Cell:
    """Return a number of a summary as it is printed, with the sign that its number of units asks for."""
    mean, n, usual = f"{number['mean']:.{digits}f}", int(number["n"]), usual_of[number["unit"]]
    if n == 0:
        return Cell(mean, note="‡")
    if n == 1:
        return Cell(mean, note="" if usual == 1 else "†")
    signs = "°" if number["best"] != number["best_after_holm"] else ""
    note = " ".join(filter(None, (signs, "" if n == usual else f"(n={n})")))
    return Cell(mean, f"{number['std']:.{digits}f}", note, bool(number["best"]))


def p_text(value: float) -> str:
    """Return a p value in three decimals, in four where these would not tell on which side of 5 % it is."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.4f}" if 0.0495 <= value < 0.0505 else f"{value:.3f}"


def p_cell(value: float) -> Cell | None:
    """Return a p value as a cell, an empty one where there is no test."""
    return None if math.isnan(value) else Cell(p_text(value))


def interval_cell(low: float, high: float, digits: int) -> Cell | None:
    """Return an interval as a cell, an empty one where there is none."""
    return None if math.isnan(low) else Cell(f"[{low:.{digits}f}, {high:.{digits}f}]")


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign; what rounds to nothing has none."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else f"{0:.{digits}f}"


def digits_of(numbers: pd.DataFrame, measure: Measure) -> int:
    """Return one decimal for percent, two where a deviation would print as 0.0; three figures for other units."""
    if measure.scale == 100.0:
        return 2 if ((numbers["std"] > 0.0) & (numbers["std"] < 0.05)).any() else 1
    if measure.unit == COUNT:
        return int((numbers["std"] > 0.0).any())
    largest = numbers["mean"].abs().max()
    return min(3, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 1


def _caption(measure: Measure, numbers: pd.DataFrame, usual: dict[str, int]) -> str:
    unit = "percent" if measure.unit == "%" else measure.unit
    parts = [f"{measure.title}, in {unit}: {spread(usual)}{', last epoch' if measure.tested else ''}."]
    if measure == OPTIMISM:
        parts = [
            f"What choosing the best epoch on the test set would add to image AUROC, in {measure.unit}: oracle minus "
            f"last epoch; {spread(usual)}. Trainable methods only."
        ]
    if measure.note:
        parts.append(measure.note)
    if measure.tested:
        parts.append(rule(numbers))
    elif measure != OPTIMISM:
        parts.append("Not tested, for it depends on the machine.")
    return " ".join([*parts, *signs(numbers, usual)])

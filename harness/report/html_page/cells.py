"""Find the numbers behind the printed cells of a table, which know their place only."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any, NamedTuple

from harness.report.summary import COLUMNS
from harness.report.tables import Cell, Row, Table

Number = Mapping[Hashable, Any]  # a row of `Table.numbers`
SETTING = "setting"  # column of the numbers of a table whose rows are settings
Place = tuple[str, str, bool, str, str]  # data set, category, is_mean, label and measure


class Behind(NamedTuple):
    """What stands behind a table's cells.

    Attributes:
        down: whether the methods that are compared stand below each other, and measures across.
        measures: the measure of each column; empty where none is known.
        numbers: for each row the number behind each of its cells; None for empty cells and unknown ones.
    """

    down: bool
    measures: list[str]
    numbers: list[list[Number | None]]


def behind(table: Table, labels: Collection[str]) -> Behind:
    """Match a table's cells with its numbers: of methods across, down, or across with their settings down.

    A number counts only if the cell prints its mean, so that no dialog tells of another number than was clicked.

    Args:
        table: any table; one of something else than methods (of their pairs, say) has nothing behind its cells.
        labels: the methods.
    """
    found = _numbers(table, labels)
    down = len(table.heads) > 1 and SETTING not in table.numbers.columns
    of_cells = _labels(table, found, down)
    measures = list(dict.fromkeys(place[-1] for place in found))
    if down:
        measures = _measures_across(table, found, measures, of_cells)
    else:
        measures = [measures[0] if len(measures) == 1 else ""] * len(table.columns)
    rows = []
    for row, own in zip(table.rows, of_cells, strict=True):
        numbers = [found.get(_place(row, *of)) for of in zip(own, measures, strict=True)]
        rows.append([n if _prints(cell, n) else None for cell, n in zip(row.cells, numbers, strict=True)])
    return Behind(down, measures, rows)


def _numbers(table: Table, labels: Collection[str]) -> dict[Place, Number]:
    """Return a table's numbers by their place, as far as they are those of a summary of methods."""
    if not {*COLUMNS} <= {*table.numbers.columns}:
        return {}
    numbers = table.numbers[table.numbers["label"].isin(labels)]
    places = zip(*(numbers[name] for name in ("dataset", "category", "is_mean", "label", "measure")), strict=True)
    return dict(zip(places, numbers.to_dict("records"), strict=True))


def _labels(table: Table, found: Mapping[Place, Number], down: bool) -> list[list[str]]:
    """Return for each row the label that each of its cells is of."""
    if down:
        return [[row.more[0] if row.more else ""] * len(table.columns) for row in table.rows]
    if SETTING not in table.numbers.columns:
        return [list(table.columns)] * len(table.rows)
    crossed = {(n[SETTING], n["label"].partition(" (")[0]): n["label"] for n in found.values()}
    return [[crossed.get((row.more[0], column), "") for column in table.columns] for row in table.rows]


def _measures_across(
    table: Table, found: Mapping[Place, Number], measures: list[str], labels: list[list[str]]
) -> list[str]:
    """Return the measure of each column: they have the order of the numbers, but either may lack some of the other.

    A column of a measure that no run has is empty, and the CSV may hold more than is printed.
    """
    keys = []
    for i in range(len(table.columns)):
        cells = [(row.cells[i], row, own[i]) for row, own in zip(table.rows, labels, strict=True)]
        fits = (m for m in measures if all(_prints(c, found.get(_place(row, label, m))) for c, row, label in cells))
        keys.append(next(fits, ""))
        measures = measures[measures.index(keys[-1]) + 1 :] if keys[-1] else measures
    return keys


def _prints(cell: Cell | None, number: Number | None) -> bool:
    if cell is None or number is None:
        return cell is number
    return f"{number['mean']:.{len(cell.mean.partition('.')[2])}f}" == cell.mean


def _place(row: Row, label: str, measure: str) -> Place:
    return row.group, row.label, row.is_mean, label, measure

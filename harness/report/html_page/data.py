"""The data behind the dialogs of `index.html`: every run once, its values by measure, and the numbers of each cell.

Everything is stored by column and names runs by their position, so that a page of 10,000 runs stays small.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from harness.report.html_page.cells import Number, behind
from harness.report.measures import OPTIMISM, with_optimism
from harness.report.stability import with_stability
from harness.report.study import Study
from harness.report.tables import Table

FACTS = {  # columns of the runs -> how a dialog calls them
    "experiment": "Experiment",
    "protocol": "Protocol",
    "shots": "Training images",
    "weights": "Backbone weights",
    "device": "Device",
    "libraries": "Libraries",
    "classifier_libraries": "Libraries of classifiers",
    "features": "Features",
    "eval_batch_size": "Images in a batch at inference",
    "tuned_on_test": "Chosen on test images",
    "data_fingerprint": "Data fingerprint",
    "version": "Harness version",
    "git_commit": "Git commit",
}
EXTRAS = {"pvalue": "p", "holm": "p (Holm)"}  # columns of numbers that compare with the best of a row
FIGURES = 7  # that are kept of a value: more than any table prints


class Details:
    """Collects what the dialogs of a page show, table by table."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.labels = {label: i for i, label in enumerate(dict.fromkeys(study.runs["label"]))}
        self.position = {run_id: i for i, run_id in enumerate(study.runs["run_id"])}
        self.groups: dict[tuple[str, ...], int] = {}
        self.values: dict[str, dict[str, list[Any]]] = {}
        self.tables: list[dict[str, Any]] = []

    def add(self, table: Table) -> list[list[int | None]]:
        """Take in a table; return for each row which dialog each of its cells opens, None for none."""
        down, measures, numbers = behind(table, set(self.labels))
        for key in filter(None, dict.fromkeys(measures)):
            if key not in self.values:
                self.values[key] = self._values(key, [n for row in numbers for n in row if n and n["measure"] == key])
        extras = [column for column in EXTRAS if column in table.numbers.columns]
        cells = [self._cell(number, extras) if number else 0 for row in numbers for number in row]
        self.tables.append(
            {
                "title": table.title,
                "heads": table.columns,
                "down": down,
                "measures": measures,
                "rows": [[row.group, row.label] for row in table.rows],
                "extras": extras,
                "cells": cells if any(cells) else [],
            }
        )
        width = len(table.columns)
        return [[r * width + i if number else None for i, number in enumerate(row)] for r, row in enumerate(numbers)]

    def json(self) -> str:
        """Return everything as JSON that an HTML script element can hold."""
        found = {
            "runs": self._runs(),
            "groups": [[self.position[run_id] for run_id in ids] for ids in self.groups],
            "values": self.values,
            "tables": self.tables,
            "extras": EXTRAS,
            "labels": list(self.labels),
            "settings": self.study.settings,
        }
        text = json.dumps(found, separators=(",", ":"), allow_nan=False)
        return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")

    def _cell(self, number: Number, extras: Sequence[str]) -> list[Any]:
        """Return label, mean, std, n, signs (1: of the best, 2: over categories), unit, runs, and the extras."""
        group = self.groups.setdefault(tuple(number["run_ids"]), len(self.groups))
        signs = int(number["best"]) + 2 * int(number["is_mean"])
        values = [_short(number["mean"]), _short(number["std"]), int(number["n"])]
        start = [self.labels[number["label"]], *values, signs, number["unit"], group]
        return start + [_short(number[column]) for column in extras]

    def _values(self, key: str, numbers: Sequence[Number]) -> dict[str, list[Any]]:
        """Return a measure of all runs in the unit of its tables; `at` are the runs' positions, unless all have it."""
        frame = self._frame(key)
        if key not in frame:
            return {"at": [], "values": []}
        values = frame.set_index("run_id")[key].dropna()
        values = values * _scale(values, numbers)
        at = [self.position[run_id] for run_id in values.index]
        whole = {} if at == list(range(len(self.position))) else {"at": at}
        return whole | {"values": [_short(value) for value in values]}

    def _frame(self, key: str) -> pd.DataFrame:
        """Return the runs with a measure, which may be one that the report made of others."""
        if key == OPTIMISM.key:
            return with_optimism(self.study.runs)
        return self._steady if key.startswith("stability/") else self.study.runs

    @cached_property
    def _steady(self) -> pd.DataFrame:
        return with_stability(self.study.runs, self.study.epochs)

    def _runs(self) -> dict[str, Any]:
        runs = self.study.runs
        found: dict[str, Any] = {"id": list(runs["run_id"]), "name": list(runs["name"])}
        found |= {column: _factored(runs[column]) for column in ("category", "unit", "fold")}
        found["facts"] = {title: _factored(runs[column]) for column, title in FACTS.items() if column in runs}
        params = pd.DataFrame([self.study.params.get(run_id, {}) for run_id in runs["run_id"]])
        found["params"] = {str(key): _factored(params[key]) for key in sorted(params)}
        return found


def _scale(values: pd.Series, numbers: Sequence[Number]) -> float:
    """Return what turns stored values into a table's unit: the power of ten between its largest number and its runs."""
    largest = max(numbers, key=lambda number: abs(number["mean"]), default=None)
    stored = values.reindex(largest["run_ids"]).mean() if largest else 0.0
    ratio = largest["mean"] / stored if largest and stored else 0.0
    return 10.0 ** round(math.log10(ratio)) if 0.0 < ratio < math.inf else 1.0


def _factored(column: pd.Series) -> dict[str, list[Any]]:
    """Return a column as its values, each once, and for each run the position of its value (unless all have one)."""
    codes, values = pd.factorize(column.astype(object).where(column.notna(), "").map(str))
    return {"values": list(values)} | ({"of": codes.tolist()} if len(values) > 1 else {})


def _short(value: float) -> float | None:
    """Return a number with as many figures as the page shows; None for nan."""
    return float(f"{value:.{FIGURES}g}") if math.isfinite(value) else None

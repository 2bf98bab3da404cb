"""Where every number comes from: tables and figures traced to MLflow runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness import __version__
from harness.checkout import git_commit
from harness.report.figures import Figure
from harness.report.study import Study
from harness.report.tables import Table

RUN_FACTS = ("run_key", "name", "experiment", "label", "dataset", "category", "seed", "fold", "git_commit", "version")


def provenance(
    study: Study, tables: Sequence[Table], figures: Sequence[Figure], experiment: str | None, command: str
) -> dict[str, Any]:
    """Return the content of `provenance.json`: numbers by table, row and column, lines by figure, setting, metric."""
    return {
        "command": command,
        "experiment": experiment,
        "store": study.store,
        "harness_version": __version__,
        "git_commit": git_commit(),
        "warnings": list(study.warnings),
        "holes": [str(hole) for hole in study.holes],
        "impossible": {needs: [str(cell) for cell in cells] for needs, cells in study.impossible.items()},
        "tables": {table.name: _cells(table) for table in tables},
        "figures": {figure.name: figure.lines for figure in figures},
        "runs": {run["run_id"]: {fact: run[fact] for fact in RUN_FACTS} for run in study.runs.to_dict("records")},
    }


def _cells(table: Table) -> dict[str, dict[str, Any]]:
    cells: dict[str, dict[str, Any]] = {}
    for number in table.numbers.to_dict("records"):
        place = f"{number['dataset']} ({number['category']})" if number["is_mean"] else None
        row = place or f"{number['dataset']}/{number['category']}"
        column = f"{number['label']}: {number['measure']}" if "measure" in number else number["label"]
        cells.setdefault(row, {})[column] = {
            "mean": number["mean"],
            "std": None if math.isnan(number["std"]) else number["std"],
            "n": number["n"],
            "unit": number["unit"],
            "best": number["best"],
            "run_ids": list(number["run_ids"]),
        } | {p: None if math.isnan(number[p]) else number[p] for p in ("pvalue", "holm") if p in number}
    return cells

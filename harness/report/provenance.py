"""Where every number comes from: tables and figures traced to MLflow runs."""

from __future__ import annotations

import math
from typing import Any

from harness import __version__
from harness.checkout import git_commit
from harness.report.content import Content
from harness.report.tables import Table

PLACE = ("dataset", "category", "is_mean", "label", "measure")
RUN_FACTS = ("run_key", "name", "experiment", "label", "dataset", "category", "seed", "fold", "git_commit", "version")


def provenance(content: Content, experiment: str | None) -> dict[str, Any]:
    """Return the content of `provenance.json`: numbers by table, row and column, lines by figure, setting, metric."""
    study = content.study
    return {
        "command": content.command,
        "experiment": experiment,
        "store": study.store,
        "harness_version": __version__,
        "git_commit": git_commit(),
        "warnings": list(study.warnings),
        "holes": [str(hole) for hole in study.holes],
        "impossible": {needs: [str(cell) for cell in cells] for needs, cells in study.impossible.items()},
        "tables": {table.name: _cells(table) for table in content.tables},
        "figures": {figure.name: figure.lines for figure in content.figures},
        "runs": {run["run_id"]: {fact: run[fact] for fact in RUN_FACTS} for run in study.runs.to_dict("records")},
    }


def _cells(table: Table) -> dict[str, dict[str, Any]]:
    cells: dict[str, dict[str, Any]] = {}
    several = "measure" in table.numbers and table.numbers["measure"].nunique() > 1
    for number in table.numbers.to_dict("records"):
        place = f"{number['dataset']} ({number['category']})" if number["is_mean"] else None
        row = place or "/".join(filter(None, (number["dataset"], number["category"], number.get("kind"))))
        column = f"{number['label']}: {number['measure']}" if several else number["label"]
        others = {
            key: _plain(value) for key, value in number.items() if key not in PLACE and key not in ("mean", "std", "n")
        }
        cells.setdefault(row, {})[column] = {
            "mean": _plain(number["mean"]),
            "std": _plain(number["std"]),
            "n": number["n"],
        } | others
    return cells


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: a nan is null, ids are a list."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return list(value) if isinstance(value, tuple) else value

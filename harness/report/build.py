"""Build one report: collect, summarise, lay out, draw, write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import HarnessError
from harness.report.collect import collect
from harness.report.decisions import decision_tables
from harness.report.figures import Figure, draw, epoch_curves
from harness.report.holes import Hole
from harness.report.measures import OPTIMISM, measures, with_optimism
from harness.report.options import ReportOptions
from harness.report.page import page
from harness.report.provenance import provenance
from harness.report.render import csv, latex
from harness.report.selection import selection_tables
from harness.report.shots import draw_shots, shot_curves
from harness.report.stability import stability_tables
from harness.report.study import Study
from harness.report.summary import summarise
from harness.report.tables import Table, layout
from harness.report.variants import label_order


class Built(NamedTuple):
    """A report on disk; `folder` is None when `strict` refused to render it."""

    folder: Path | None
    holes: tuple[Hole, ...]
    warnings: tuple[str, ...]


def build(options: ReportOptions, command: str) -> Built:
    """Render the report of an experiment, or of everything in the store.

    Args:
        options: what to report, and where to.
        command: what the user typed, printed on the page.

    Raises:
        HarnessError: when there is nothing to report.
    """
    expected, notes = expected_cells(options)
    study = collect(options.tracking.uri, options.experiment, expected)
    study = replace(study, warnings=(*notes, *study.warnings))
    if study.holes and options.strict:
        return Built(None, study.holes, study.warnings)
    tables = make_tables(study, options.tables)
    folder = Path(options.reports_dir) / folder_name(options.name or options.experiment)
    _clear(folder)
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    figures = [
        *draw(epoch_curves(study.runs, study.epochs), folder / "figures"),
        *draw_shots(shot_curves(study.runs), folder / "figures"),
    ]
    for table in tables:
        _write(folder / "tables" / f"{table.name}.tex", latex(table))
        _write(folder / "tables" / f"{table.name}.csv", csv(table))
    _write(folder / "report.md", page(study, tables, figures, options.experiment, command))
    trace = provenance(study, tables, figures, options.experiment, command)
    trace["files"] = ["report.md", *_written(tables, figures)]
    _write(folder / "provenance.json", json.dumps(trace, indent=1, ensure_ascii=False) + "\n")
    return Built(folder, study.holes, study.warnings)


def expected_cells(options: ReportOptions) -> tuple[Sequence[Mapping[str, Any]] | None, list[str]]:
    """Return the cells of the experiment's grids, recomposed from its configuration, and what hindered that.

    The cells are None for no experiment, for one without a configuration or grids of its own, and where the grids
    cannot be recomposed: a store that was moved to where the data are not still reports.
    """
    from harness.schema import CONF_DIR

    experiment = options.experiment
    folders = [CONF_DIR, *([Path(options.config_dir).resolve()] if options.config_dir else [])]
    if experiment is None or not any((f / "experiment" / f"{experiment}.yaml").is_file() for f in folders):
        return None, []
    from harness.grid import expected_cells

    overrides = [*options.overrides, f"tracking.directory={options.tracking.directory}"]
    overrides += [f"hydra.searchpath=[{folder.as_uri()}]" for folder in folders[1:]]
    try:
        return expected_cells(experiment, overrides), []
    except HarnessError as error:
        return None, [
            f"The grid of experiment {experiment} cannot be recomposed here, so holes are judged by what the other "
            f"runs have. {error}"
        ]


def make_tables(study: Study, wanted: Sequence[str] = ()) -> list[Table]:
    """Return a table a metric, and where none are wanted by name: choices of the epoch, thresholds and stability."""
    labels = label_order(study.runs["label"].unique())
    tables = [
        layout(measure, summarise(study.runs, measure), labels, study.unproven if measure.tested else ())
        for measure in measures(study.runs, wanted)
    ]
    if wanted:
        return tables
    trained = with_optimism(study.runs)
    if len(trained):
        tables.append(layout(OPTIMISM, summarise(trained, OPTIMISM), labels))
    tables += selection_tables(trained, labels)
    tables += decision_tables(study.runs, labels)
    return tables + stability_tables(study.runs, study.epochs, labels)


def folder_name(experiment: str | None) -> str:
    """Return the report's folder: the experiment's name as a file name, or `all`."""
    return re.sub(r"[^\w.-]+", "_", experiment).strip(".") or "_" if experiment else "all"


def _written(tables: Sequence[Table], figures: Sequence[Figure]) -> list[str]:
    names = [f"tables/{table.name}.{kind}" for table in tables for kind in ("tex", "csv")]
    return names + [f"figures/{figure.name}.{kind}" for figure in figures for kind in ("pdf", "png")]


def _clear(folder: Path) -> None:
    """Remove what an earlier report wrote here, and nothing else, so that no stale table stays behind."""
    trace = folder / "provenance.json"
    if not trace.is_file():
        return
    try:
        files = json.loads(trace.read_text(encoding="utf-8")).get("files", [])
    except ValueError as error:
        raise HarnessError(f"{trace} is not a report's; remove {folder} or choose another reports_dir.") from error
    for name in files:
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")

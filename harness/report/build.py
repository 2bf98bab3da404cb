"""Build one report: collect, summarise, lay out, draw, write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd

from harness.arguments import searchpath
from harness.data.looking import looking
from harness.errors import HarnessError
from harness.report.ablation import draw_ablations
from harness.report.artifacts import Artifacts, scored_runs
from harness.report.boxes import draw_boxes
from harness.report.collect import collect
from harness.report.content import Content
from harness.report.crossed import crossed, crossed_table
from harness.report.data_tables import data_tables
from harness.report.decisions import decision_tables
from harness.report.distributions import draw_distributions
from harness.report.figures import Figure, draw, epoch_curves
from harness.report.gallery import draw_galleries
from harness.report.holes import Hole
from harness.report.html import html
from harness.report.kinds import kind_tables
from harness.report.latex import latex
from harness.report.measures import OPTIMISM, Measure, measures, with_optimism
from harness.report.options import ReportOptions
from harness.report.over_categories import Ranking, draw_rankings, ranking_tables, rankings
from harness.report.overview import overview_table, sentences
from harness.report.page import page
from harness.report.pairs import Pairs, compare, draw_matrices, pair_tables
from harness.report.provenance import provenance
from harness.report.render import csv
from harness.report.reproduction import reproduction_tables
from harness.report.roc import draw_curves
from harness.report.same_images import same_image_tables
from harness.report.selection import selection_tables
from harness.report.shots import draw_shots, shot_curves
from harness.report.stability import stability_tables
from harness.report.store import open_store
from harness.report.study import Study
from harness.report.summary import summarise
from harness.report.tables import Table, layout
from harness.report.tradeoff import draw_tradeoff
from harness.report.traits import guide_tables
from harness.report.variants import label_order

TRACE = "provenance.json"
MAIN = Measure("test/image_auroc", "Image AUROC")


class Findings(NamedTuple):
    """What both tables and figures show."""

    labels: list[str]  # in order
    measures: list[Measure]
    scored: pd.DataFrame  # runs whose scores count
    pairs: list[Pairs]
    rankings: list[Ranking]


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
    study = study_of(options)
    if study.holes and options.strict:
        return Built(None, study.holes, study.warnings)
    folder = Path(options.reports_dir) / folder_name(options.name or options.experiment)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(
            prefix=".report-", dir=folder.parent
        ) as made:  # an older report stays until this is done
            content = render(study, options, command, Path(made))
            files = write_all(content, options.experiment)
            _replace(folder, Path(made), files)
    except OSError as error:
        reason = error.strerror or str(error)
        raise HarnessError(
            f"The report cannot be written to {folder}: {reason}; choose another reports_dir."
        ) from error
    return Built(folder, content.study.holes, content.study.warnings)


def render(study: Study, options: ReportOptions, command: str, folder: Path) -> Content:
    """Return what the report says; its figures are drawn into `folder/figures`."""
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with Artifacts(options.tracking.uri, study.runs) as artifacts:
        findings = find(study, options)
        tables = list(make_tables(study, findings, artifacts, bool(options.tables)))
        figures = [] if options.tables else list(make_figures(study, findings, artifacts, folder / "figures"))
        study = replace(study, warnings=(*study.warnings, *artifacts.warnings))
    title = f"Report: {options.experiment}" if options.experiment else "Report: everything finished in the store"
    return Content(title, command, study, list(sentences(study.runs, MAIN)), tables, figures, folder)


def study_of(options: ReportOptions) -> Study:
    """Return the runs that a report is about.

    Raises:
        HarnessError: when there is nothing to report.
    """
    open_store(options.tracking.uri)  # one that is not there is told at once: the grid's images may have to be drawn
    expected, notes = expected_cells(options)
    study = collect(options.tracking.uri, options.experiment, expected, options.filter)
    return replace(study, warnings=(*notes, *study.warnings))


def expected_cells(options: ReportOptions) -> tuple[Sequence[Mapping[str, Any]] | None, list[str]]:
    """Return the cells of the experiment's grids, recomposed from its configuration, and what hindered that.

    The cells are None for no experiment, for one without a configuration or grids of its own, and where the grids
    cannot be recomposed: a store that was moved to where the data are not still reports.
    """
    from harness.choices import CONF_DIR

    experiment = options.experiment
    folders = [CONF_DIR, *([Path(options.config_dir)] if options.config_dir else [])]
    if experiment is None or not any((f / "experiment" / f"{experiment}.yaml").is_file() for f in folders):
        return None, []
    from harness.grid import expected_cells

    overrides = [*options.overrides, f"tracking.directory={options.tracking.directory}"]
    overrides += searchpath(options.config_dir)
    try:
        with looking():  # a report downloads no images
            return expected_cells(experiment, overrides), []
    except HarnessError as error:
        return None, [
            f"The grid of experiment {experiment} cannot be recomposed here, so holes are judged by what the other "
            f"runs have. {error}"
        ]


def find(study: Study, options: ReportOptions) -> Findings:
    """Return what both tables and figures show."""
    labels, found = label_order(study.runs["label"].unique()), measures(study.runs, options.tables)
    if options.tables:
        return Findings(labels, found, study.runs.iloc[:0], [], [])
    compared = compare(study.runs, found, labels, options.correction)
    return Findings(labels, found, scored_runs(study), compared, rankings(study.runs, found, labels))


def make_tables(study: Study, findings: Findings, artifacts: Artifacts, metrics_only: bool) -> Iterator[Table]:
    """Yield a table a metric, and unless only these are wanted all others."""
    runs, labels = study.runs, findings.labels
    if metrics_only:
        yield from metric_tables(study, findings)
        return
    yield from overview_table(runs, findings.measures, labels)
    yield from metric_tables(study, findings)
    yield from guide_tables(study, MAIN, labels)
    yield from kind_tables(findings.scored, artifacts, labels)
    yield from pair_tables(findings.pairs)
    yield from ranking_tables(findings.rankings)
    yield from same_image_tables(findings.scored, artifacts)
    yield from reproduction_tables(study)
    trained = with_optimism(runs)
    if len(trained):
        yield layout(OPTIMISM, summarise(trained, OPTIMISM), labels)
    yield from selection_tables(trained, labels)
    yield from decision_tables(runs, labels)
    yield from stability_tables(runs, study.epochs, labels)
    yield from data_tables(runs, artifacts)


def metric_tables(study: Study, findings: Findings) -> Iterator[Table]:
    """Yield a table a metric: methods across, and down the categories, or categories × settings where these cross."""
    settings = crossed(findings.labels)
    for measure in findings.measures:
        if settings and not study.unproven:
            yield crossed_table(study.runs, measure, settings)
        else:
            always = study.unproven if measure.tested else ()
            yield layout(measure, summarise(study.runs, measure), findings.labels, always)


def make_figures(study: Study, findings: Findings, artifacts: Artifacts, folder: Path) -> Iterator[Figure]:
    """Draw every figure that the runs have the numbers for."""
    scored = findings.scored
    yield from draw_tradeoff(study.runs, folder)
    yield from draw_matrices(findings.pairs, findings.labels, folder)
    yield from draw_rankings(findings.rankings, folder)
    yield from draw_ablations(study, folder)
    yield from draw_boxes(study, folder)
    yield from draw_shots(shot_curves(study.runs), folder)
    yield from draw(epoch_curves(study.runs, study.epochs), folder)
    yield from draw_curves(scored, artifacts, folder)
    yield from draw_distributions(scored, artifacts, folder)
    yield from draw_galleries(scored, artifacts, folder)


def write_all(content: Content, experiment: str | None) -> list[str]:
    """Write tables, pages and the trace of every number; figures are there already. Return all files."""
    folder = content.folder
    for table in content.tables:
        _write(folder / "tables" / f"{table.name}.tex", latex(table))
        _write(folder / "tables" / f"{table.name}.csv", csv(table))
    _write(folder / "report.md", page(content))
    _write(folder / "index.html", html(content))
    trace = provenance(content, experiment)
    trace["files"] = ["report.md", "index.html", *_written(content)]
    _write(folder / TRACE, _as_json(trace))
    return [*trace["files"], TRACE]


def folder_name(experiment: str | None) -> str:
    """Return the report's folder: the experiment's name as a file name, or `all`."""
    return re.sub(r"[^\w.-]+", "_", experiment).strip(".") or "_" if experiment else "all"


def _as_json(trace: Mapping[str, Any]) -> str:
    """Return an object a key a line, of objects a name a line: indented throughout it takes seconds to write."""
    lines = []
    for key, value in trace.items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _written(content: Content) -> list[str]:
    names = [f"tables/{table.name}.{kind}" for table in content.tables for kind in ("tex", "csv")]
    return names + [f"figures/{figure.name}.{kind}" for figure in content.figures for kind in ("pdf", "png")]


def _replace(folder: Path, made: Path, files: Sequence[str]) -> None:
    """Put a finished report in the place of an older one; what an older one did not write stays."""
    _clear(folder)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).replace(folder / name)


def _clear(folder: Path) -> None:
    """Remove what an earlier report wrote here, and nothing else, so that no stale table stays behind."""
    trace = folder / TRACE
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

"""The report of ten thousand runs: reading, testing and rendering measured apart, and SQL against MLflow's client."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.comparison import Comparison, Duration, timed
from benchmarks.store import Size, fill
from harness.report.artifacts import Artifacts
from harness.report.build import Content, find, make_figures, make_tables, study_of, write_all
from harness.report.figures import EPOCH_METRICS
from harness.report.options import ReportOptions, TrackingOptions
from harness.report.store import Database, Server

LARGE, SMALL = Size(20, 2, 10, 25, 10), Size(10, 1, 10, 10, 10)
QUICK = Size(3, 1, 3, 3, 4)
BUDGET = 60.0  # seconds for all of it
SYNTHETIC = "Synthetic store, filled by SQL; no artifacts."


def measure(quick: bool) -> Iterator[Comparison | Duration]:
    """Yield the readers against each other, then the stages of a large report."""
    with tempfile.TemporaryDirectory() as folder:
        yield _readers(Path(folder), QUICK if quick else SMALL)
        yield from _stages(Path(folder), QUICK if quick else LARGE)


def _readers(folder: Path, size: Size) -> Comparison:
    """Read the same runs and epochs both ways."""
    path = folder / "small.db"
    fill(path, size)
    uri = f"sqlite:///{path}"

    def read(reader: type[Database] | type[Server]) -> tuple[list[object], object]:
        store = reader(uri)
        runs = sorted(store.finished("large"))
        return runs, store.histories([run.run_id for run in runs], EPOCH_METRICS)

    theirs, slow = timed(lambda: read(Server))
    ours, fast = timed(lambda: read(Database))
    same = fast[0] == slow[0] and fast[1].equals(slow[1])  # type: ignore[attr-defined]
    work = f"reading {size.runs} runs and {len(EPOCH_METRICS)} metrics over {size.epochs} epochs"
    return Comparison(work, "MLflow's client", ours, theirs, "identical" if same else "DIFFERENT", note=SYNTHETIC)


def _stages(folder: Path, size: Size) -> Iterator[Duration]:
    path = folder / "large.db"
    fill(path, size)
    options = ReportOptions("large", TrackingOptions(uri=f"sqlite:///{path}"), str(folder / "reports"))
    target = folder / "reports" / "large"
    for name in ("tables", "figures"):
        (target / name).mkdir(parents=True)
    what = f"{size.runs} runs × 30 metrics × {size.epochs} epochs"
    collecting, study = timed(lambda: study_of(options))
    with Artifacts(options.tracking.uri, study.runs) as artifacts:
        testing, findings = timed(lambda: find(study, options))
        laying, tables = timed(lambda: list(make_tables(study, findings, artifacts, False)))
        drawing, figures = timed(lambda: list(make_figures(study, findings, artifacts, target / "figures")))
    content = Content("Report: large", "benchmark", study, [], tables, figures, target)
    writing, _ = timed(lambda: write_all(content, "large"))
    yield Duration(f"collect: {what}", collecting, note=SYNTHETIC)
    yield Duration("stats: tests of all pairs and ranks", testing)
    yield Duration(f"stats and layout of {len(tables)} tables", laying)
    yield Duration(f"render: {len(figures)} figures", drawing)
    yield Duration("render: Markdown, LaTeX, CSV, HTML", writing)
    yield Duration("the whole report", collecting + testing + laying + drawing + writing, BUDGET)

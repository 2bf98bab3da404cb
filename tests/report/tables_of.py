"""The tables of a study, as a report makes them."""

from __future__ import annotations

from harness.report.artifacts import Artifacts
from harness.report.build import find, make_tables
from harness.report.options import ReportOptions
from harness.report.study import Study
from harness.report.tables import Table


def tables_of(study: Study, *wanted: str) -> list[Table]:
    options = ReportOptions(tables=list(wanted))
    with Artifacts("", study.runs) as artifacts:
        return list(make_tables(study, find(study, options), artifacts, bool(wanted)))

"""What a report says, before it is written as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.figures import Figure
from harness.report.study import Study
from harness.report.tables import Table


@dataclass(frozen=True)
class Content:
    """A report's parts, in the order of the page.

    Attributes:
        title: of the page.
        command: what the user typed.
        study: the runs behind everything.
        summary: sentences that say in plain words what came out.
        tables: each with its section.
        figures: drawn into `folder/figures` as PDF and PNG, each with its section.
        folder: where the report is written.
    """

    title: str
    command: str
    study: Study
    summary: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    folder: Path


def sections(content: Content) -> list[str]:
    """Return the sections of the page in the order in which tables and then figures have them."""
    return list(dict.fromkeys([*(t.section for t in content.tables), *(f.section for f in content.figures)]))

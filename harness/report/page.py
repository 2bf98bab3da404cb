"""Compose `report.md`: what was run, what is missing, tables, figures, and where the numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.report.content import Content, sections
from harness.report.facts import facts
from harness.report.figures import Figure
from harness.report.render import markdown, markdown_text
from harness.report.study import Study
from harness.report.tables import Table

HOLES = 20  # named at the top of the page


def page(content: Content) -> str:
    """Return the report in Markdown."""
    study, tables, figures = content.study, content.tables, content.figures
    parts = [f"# {markdown_text(content.title)}", *_holes(study), *_warnings(study)]
    parts += ["\n".join(f"- {markdown_text(sentence)}" for sentence in content.summary)] if content.summary else []
    parts += [*_overview(study), *_impossible(study)]
    for section in sections(content):
        parts += [f"## {section}"]
        parts += [text for table in tables if table.section == section for text in _table(table)]
        parts += [text for figure in figures if figure.section == section for text in _figure(figure)]
    parts += ["## Provenance"]
    parts += [
        f"Made by `{content.command}`. Every number of the tables and every line of the figures is traced to its "
        f"MLflow "
        "runs in [provenance.json](provenance.json)."
    ]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> Iterator[str]:
    files = f"[LaTeX](tables/{table.name}.tex), [CSV](tables/{table.name}.csv)"
    yield f"### {markdown_text(table.title)}"
    yield markdown(table).rstrip()
    yield f"{markdown_text(table.caption)} {files}"


def _figure(figure: Figure) -> Iterator[str]:
    path = f"figures/{figure.name}"
    yield f"### {markdown_text(figure.title)}"
    yield f"![{figure.section}]({path}.png)"
    yield f"{figure.caption} [PDF]({path}.pdf)"


def _holes(study: Study) -> Iterator[str]:
    if study.holes:
        one = len(study.holes) == 1
        lines = [f"> - {markdown_text(str(hole))}" for hole in study.holes[:HOLES]]
        more = len(study.holes) - HOLES
        yield (
            f"> **Incomplete: {len(study.holes)} {'cell' if one else 'cells'} of the grid "
            f"{'has' if one else 'have'} no finished run.**\n>\n" + "\n".join(lines)
        ) + (f"\n> - and {more} more: see provenance.json" if more > 0 else "")


def _warnings(study: Study) -> Iterator[str]:
    if study.warnings:
        yield "\n".join(f"> **Warning:** {markdown_text(text)}\n>" for text in study.warnings).removesuffix("\n>")


def _impossible(study: Study) -> Iterator[str]:
    if study.impossible:
        yield "## Not possible with the public data"
    for needs, cells in study.impossible.items():
        count = Counter((cell.method, cell.dataset, cell.category) for cell in cells)
        lines = [f"- {markdown_text(' / '.join(place))} ({n} {_runs(n)})" for place, n in count.items()]
        yield f"{markdown_text(needs)}\n\n" + "\n".join(lines)


def _runs(n: int) -> str:
    return "run" if n == 1 else "runs"


def _overview(study: Study) -> Iterator[str]:
    yield "## What was run"
    yield "\n".join(f"- {markdown_text(fact)}" for fact in facts(study))

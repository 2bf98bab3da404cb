"""Compose `report.md`: what was run, what is missing, tables, figures, and where the numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.report import figures as fig
from harness.report.render import markdown, markdown_text
from harness.report.study import Study
from harness.report.tables import RESULTS, Table

NO_FIGURE = "No trainable method logged its epochs: no figure."


def page(
    study: Study, tables: Sequence[Table], figures: Sequence[fig.Figure], experiment: str | None, command: str
) -> str:
    """Return the report in Markdown."""
    title = f"Report: {experiment}" if experiment else "Report: everything finished in the store"
    parts = [f"# {markdown_text(title)}", *_holes(study), *_warnings(study), *_overview(study)]
    parts += list(_impossible(study))
    for section in dict.fromkeys([RESULTS, *(table.section for table in tables)]):
        parts += [f"## {section}"]
        parts += [text for table in tables if table.section == section for text in _table(table)]
    for section in dict.fromkeys([fig.SECTION, *(figure.section for figure in figures)]):
        shown = [figure for figure in figures if figure.section == section]
        parts += [f"## {section}"]
        parts += [text for figure in shown for text in _figure(figure)] or [NO_FIGURE]
    parts += ["## Provenance"]
    parts += [
        f"Made by `{command}`. Every number of the tables and every line of the figures is traced to its MLflow runs "
        "in [provenance.json](provenance.json)."
    ]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> Iterator[str]:
    files = f"[LaTeX](tables/{table.name}.tex), [CSV](tables/{table.name}.csv)"
    yield f"### {markdown_text(table.title)}"
    yield markdown(table).rstrip()
    yield f"{markdown_text(table.caption)} {files}"


def _figure(figure: fig.Figure) -> Iterator[str]:
    path = f"figures/{figure.name}"
    yield f"### {markdown_text(figure.title)}"
    yield f"![{figure.section}]({path}.png)"
    yield f"{figure.caption} [PDF]({path}.pdf)"


def _holes(study: Study) -> Iterator[str]:
    if study.holes:
        one = len(study.holes) == 1
        yield (
            f"> **Incomplete: {len(study.holes)} {'cell' if one else 'cells'} of the grid "
            f"{'has' if one else 'have'} no finished run.**\n>\n"
            + "\n".join(f"> - {markdown_text(str(hole))}" for hole in study.holes)
        )


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
    runs = study.runs
    yield "## What was run"
    facts = [
        f"{len(runs)} finished runs in `{study.store}`",
        f"Data sets: {_list(f'{d} ({n} categories)' if n > 1 else str(d) for d, n in _counts(study))}",
        f"Seeds: {_list(str(seed) for seed in sorted(runs['seed'].unique()))}",
        f"Protocol: {_list(sorted(runs['protocol'].unique()))}",
        f"Backbone weights: {_list(sorted(runs['weights'].unique()))}",
        f"Device: {_list(sorted(runs['device'].unique()))}",
        f"Libraries: {_list(sorted(runs['libraries'].unique()))}",
    ]
    if folds := {int(fold) for fold in runs["fold"] if fold}:
        facts.insert(3, f"Folds: {_list(str(fold) for fold in sorted(folds))} (from 0), of each seed")
    if "speed/images_per_second" in runs.columns:
        sizes = _list(sorted(runs["eval_batch_size"].unique()))
        facts.append(f"Inference speed: in batches of {sizes}, after a warm-up, images already in memory")
    if stored := int((runs["features"] == "cached").sum()):
        facts.append(
            f"Features: {stored} runs read stored ones; their times and speeds count what computing them costs"
        )
    if timed := int(runs["timing"].sum()):
        facts.append(f"Times measured apart: {timed} runs with timing=true, nothing stored, calls synchronised")
    facts += [
        f"{markdown_text(method)} without a suffix means {_list(f'{k}={v}' for k, v in base.items())}"
        for method, base in study.base.items()
    ]
    facts += [
        f"{markdown_text(method)}: all runs have {_list(f'{k}={v} (usual: {u})' for k, (v, u) in shared.items())}"
        for method, shared in study.unusual.items()
    ]
    facts += [
        f"{markdown_text(method)}: {markdown_text(key)} goes with the data set: "
        + _list(f"{dataset} {value}" for dataset, value in values.items())
        for method, tied in study.by_dataset.items()
        for key, values in tied.items()
    ]
    facts.append(
        "Results are the last epoch's; no epoch is chosen on the test images, but for what is labelled an oracle."
    )
    yield "\n".join(f"- {fact}" for fact in facts)


def _counts(study: Study) -> Iterator[tuple[str, int]]:
    for dataset, group in study.runs.groupby("dataset"):
        yield str(dataset), int(group["category"].nunique())


def _list(items: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(markdown_text(str(item)) for item in items)

"""Compose `report.md`: what was run, what is missing, tables, figures, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.report import figures as fig
from harness.report.render import markdown, markdown_text
from harness.report.study import Study
from harness.report.tables import Table


def page(
    study: Study, tables: Sequence[Table], figures: Sequence[fig.Figure], experiment: str | None, command: str
) -> str:
    """Return the report in Markdown."""
    title = f"Report: {experiment}" if experiment else "Report: everything finished in the store"
    parts = [f"# {markdown_text(title)}", *_holes(study), *_warnings(study), *_overview(study)]
    parts += ["## Results"]
    for table in tables:
        files = f"[LaTeX](tables/{table.name}.tex), [CSV](tables/{table.name}.csv)"
        parts += [f"### {markdown_text(table.title)}", markdown(table).rstrip()]
        parts += [f"{markdown_text(table.caption)} {files}"]
    parts += ["## Over the epochs"]
    if not figures:
        parts += ["No trainable method logged its epochs: no figure."]
    for figure in figures:
        path = f"figures/{figure.name}"
        parts += [f"### {markdown_text(figure.title)}", f"![Metrics and loss over epochs]({path}.png)"]
        parts += [f"{fig.CAPTION} [PDF]({path}.pdf)"]
    parts += ["## Provenance"]
    parts += [
        f"Made by `{command}`. Every number of the tables and every line of the figures is traced to its MLflow runs "
        "in [provenance.json](provenance.json)."
    ]
    return "\n\n".join(parts) + "\n"


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
        f"{markdown_text(method)}: {markdown_text(key)} goes with the data set: "
        + _list(f"{dataset} {value}" for dataset, value in values.items())
        for method, tied in study.by_dataset.items()
        for key, values in tied.items()
    ]
    facts.append("Every value is the last epoch's; no epoch is selected on the test set.")
    yield "\n".join(f"- {fact}" for fact in facts)


def _counts(study: Study) -> Iterator[tuple[str, int]]:
    for dataset, group in study.runs.groupby("dataset"):
        yield str(dataset), int(group["category"].nunique())


def _list(items: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(markdown_text(str(item)) for item in items)

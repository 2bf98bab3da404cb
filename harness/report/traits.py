"""A usage guide from results (paper 002, Table 14): which setting suits categories with a trait."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from harness.report.captions import rule, signs, spread, usual_n
from harness.report.figures import slug_of
from harness.report.measures import Measure
from harness.report.study import Study
from harness.report.summary import COLUMNS, rows_of, samples_over
from harness.report.tables import Cell, Row, Table, cell_of, digits_of

SECTION = "Usage guide"
KEY = "dataset.traits"
CAPTION = (
    "Image AUROC in percent by what categories have in common (traits of the data set's YAML): categories with a trait "
    "are averaged within each seed. {numbers} Suggested: the best of a row and what the test does not separate from it."
)


def guide_tables(study: Study, measure: Measure, labels: Sequence[str]) -> list[Table]:
    """Return the guide of every data set of which two or more traits have results."""
    tables = []
    for dataset, runs in study.runs.groupby("dataset", sort=True):
        traits = traits_of(study.params, runs)
        if len(traits) > 1 and measure.key in runs.columns and runs[measure.key].notna().any():
            tables.append(_table(str(dataset), runs, traits, measure, labels))
    return tables


def traits_of(params: Mapping[str, Mapping[str, str]], runs: pd.DataFrame) -> dict[str, list[str]]:
    """Return the traits that the runs logged, with the categories that were run, in the order of the YAML."""
    ran = set(runs["category"])
    logged = [params[run_id][KEY] for run_id in runs["run_id"] if KEY in params[run_id]]
    traits: dict[str, list[str]] = json.loads(logged[-1]) if logged else {}
    kept = {trait: [str(c) for c in categories if str(c) in ran] for trait, categories in traits.items()}
    return {trait: categories for trait, categories in kept.items() if categories}


def _table(
    dataset: str, runs: pd.DataFrame, traits: Mapping[str, Sequence[str]], measure: Measure, labels: Sequence[str]
) -> Table:
    numbers = pd.DataFrame(_numbers(dataset, runs, traits, measure), columns=COLUMNS)
    columns = [label for label in labels if label in set(numbers["label"])]
    usual, digits = usual_n(numbers), digits_of(numbers, measure)
    rows = []
    for trait, categories in traits.items():
        found = {number["label"]: number for number in numbers[numbers["category"] == trait].to_dict("records")}
        cells: list[Cell | None] = [cell_of(found[c], digits, usual) if c in found else None for c in columns]
        best = [label for label in columns if label in found and found[label]["best"]]
        cells.append(Cell(", ".join(best)) if best else None)
        rows.append(Row(dataset, trait, tuple(cells), more=(", ".join(categories),)))
    told = f"Each number: {spread(usual)}. {rule(numbers)}"
    caption = " ".join([CAPTION.format(numbers=told), *signs(numbers.assign(is_mean=False), usual)])
    name = f"guide_{slug_of(dataset)}"
    heads = ("Trait", "Categories")
    return Table(
        name, f"What suits what: {dataset}", caption, (*columns, "Suggested"), tuple(rows), numbers, SECTION, heads
    )


def _numbers(
    dataset: str, runs: pd.DataFrame, traits: Mapping[str, Sequence[str]], measure: Measure
) -> Iterator[dict[str, object]]:
    for trait, categories in traits.items():
        samples = samples_over(dataset, trait, runs[runs["category"].isin(categories)], measure)
        yield from rows_of(samples, measure) if samples is not None else ()

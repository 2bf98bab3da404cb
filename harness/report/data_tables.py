"""What the images were (papers 001, Table 1; 002, Table 3; 003, Table I): how many, for what, with which defects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.report.artifacts import Artifacts
from harness.report.tables import Cell, Row, Table

SECTION = "Data"
PARTS = ("train", "held", "validation", "test")
COLUMNS = {  # heading -> parts and labels counted
    "Train": (("train",), (0, 1)),
    "Held out": (("held",), (0, 1)),
    "Validation good": (("validation",), (0,)),
    "Validation defective": (("validation",), (1,)),
    "Test good": (("test",), (0,)),
    "Test defective": (("test",), (1,)),
    "All": (PARTS, (0, 1)),
}
CAPTION = (
    "Images of each category and what they were for, in the run of the lowest seed (and fold) with the most training "
    "images; synthetic defects among the validation images count. Total: sums over the categories. Source: split.csv "
    "of the runs."
)
KINDS_CAPTION = "Defective images of each kind, by what they were for in the same runs as above."


def data_tables(runs: pd.DataFrame, artifacts: Artifacts) -> list[Table]:
    """Return the table of images, and the one of kinds of defects; none where no run left a `split.csv`."""
    splits = dict(_splits(runs, artifacts))
    if not splits:
        return []
    counts = pd.DataFrame(_numbers(place, run_id, split) for place, (run_id, split) in splits.items())
    return [_images(counts), *_kinds(splits)]


def _splits(runs: pd.DataFrame, artifacts: Artifacts) -> Iterator[tuple[tuple[str, str], tuple[str, pd.DataFrame]]]:
    """Yield data set and category with one run's split: few-shot runs train on fewer images than there are."""
    order = runs.assign(fold_number=pd.to_numeric(runs["fold"], errors="coerce").fillna(-1))
    for (dataset, category), group in order.groupby(["dataset", "category"], sort=True):
        first = group.sort_values(["seed", "fold_number"]).drop_duplicates("label")
        found = [(run_id, split) for run_id in first["run_id"] if (split := artifacts.split(run_id)) is not None]
        if found:
            yield (str(dataset), str(category)), max(found, key=lambda item: _count(item[1], ("train",), (0, 1)))


def _count(split: pd.DataFrame, parts: tuple[str, ...], labels: tuple[int, ...]) -> int:
    """Return how many images have one of the parts; one image may have several (`train+validation`)."""
    has = split["part"].str.split("+").apply(lambda of: bool(set(of) & set(parts)))
    return int((has & split["label"].isin(labels)).sum())


def _numbers(place: tuple[str, str], run_id: str, split: pd.DataFrame) -> dict[str, Any]:
    counts = {column: _count(split, *what) for column, what in COLUMNS.items()}
    kinds = split.loc[split["label"] == 1, "defect"].nunique()
    return {"dataset": place[0], "category": place[1], "run_id": run_id} | counts | {"Kinds of defects": kinds}


def _images(counts: pd.DataFrame) -> Table:
    columns = [c for c in (*COLUMNS, "Kinds of defects") if (counts[c] > 0).any() or c in ("Train", "All")]
    rows = []
    for dataset, group in counts.groupby("dataset", sort=True):
        for row in group.to_dict("records"):
            rows.append(Row(str(dataset), row["category"], tuple(Cell(str(row[c])) for c in columns)))
        if len(group) > 1:
            total = [None if c == "Kinds of defects" else Cell(str(group[c].sum())) for c in columns]
            rows.append(Row(str(dataset), "Total", tuple(total), is_mean=True))
    numbers = [
        _tidy(row, column, float(row[column]), row["run_id"]) for row in counts.to_dict("records") for column in columns
    ]
    return Table("images", "Images", CAPTION, tuple(columns), tuple(rows), pd.DataFrame(numbers), SECTION, of="images")


def _kinds(splits: Mapping[tuple[str, str], tuple[str, pd.DataFrame]]) -> list[Table]:
    columns = ("Train", "Validation", "Test")
    rows, numbers = [], []
    for (dataset, category), (run_id, split) in splits.items():
        for kind, images in split[split["label"] == 1].groupby("defect", sort=True):
            counts = [_count(images, (part.lower(),), (1,)) for part in columns]
            rows.append(Row(dataset, category, tuple(Cell(str(count)) for count in counts), more=(str(kind),)))
            place = {"dataset": dataset, "category": category}
            numbers += [_tidy(place, f"{kind}: {c}", float(n), run_id) for c, n in zip(columns, counts, strict=True)]
    if not rows:
        return []
    table = pd.DataFrame(numbers)
    heads = ("Category", "Defect")
    return [Table("defects", "Kinds of defects", KINDS_CAPTION, columns, tuple(rows), table, SECTION, heads, "images")]


def _tidy(place: Mapping[str, Any], label: str, value: float, run_id: str) -> dict[str, Any]:
    return {
        "dataset": place["dataset"],
        "category": place["category"],
        "is_mean": False,
        "label": label,
        "mean": value,
        "std": math.nan,
        "n": 1,
        "best": False,
        "run_ids": (run_id,),
        "unit": "run",
    }

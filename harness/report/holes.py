"""Holes: cells of the grid that have no finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd


class Hole(NamedTuple):
    """A cell without a finished run; `run_key` is known when the experiment's own grid told of the cell."""

    method: str
    dataset: str
    category: str
    seed: int
    run_key: str | None = None

    def __str__(self) -> str:
        key = f" (run key {self.run_key})" if self.run_key else ""
        return f"{self.method} / {self.dataset} / {self.category} / seed {self.seed}{key}"


def holes_of_expected(runs: pd.DataFrame, expected: Sequence[Mapping[str, Any]]) -> list[Hole]:
    """Return the expected cells whose run key no finished run has."""
    found = set(runs["run_key"])
    return sorted(
        {
            Hole(cell["method"], cell["dataset"], cell["category"], int(cell["seed"]), cell["run_key"])
            for cell in expected
            if cell["run_key"] not in found
        }
    )


def holes_of_product(runs: pd.DataFrame) -> list[Hole]:
    """Return what the runs lack of their own product: every variant × data set and category × the data set's seeds.

    Runs that measured times are a product of their own, and so are those of a protocol: not every method has a place
    in each.
    """
    return sorted(hole for _, kind in runs.groupby(["timing", "protocol"]) for hole in _missing(kind))


def _missing(runs: pd.DataFrame) -> list[Hole]:
    found = set(zip(runs["label"], runs["dataset"], runs["category"], runs["seed"], strict=True))
    seeds = runs.groupby("dataset")["seed"].unique()
    places = runs[["dataset", "category"]].drop_duplicates().itertuples(index=False, name=None)
    return [
        Hole(label, dataset, category, int(seed))
        for dataset, category in places
        for label in runs["label"].unique()
        for seed in seeds[dataset]
        if (label, dataset, category, seed) not in found
    ]

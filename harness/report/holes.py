"""Holes: cells of the grid that have no finished run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd


class Hole(NamedTuple):
    """A cell without a finished run; `run_key` is known when the experiment's own grid told of the cell."""

    method: str
    dataset: str
    category: str
    seed: int
    run_key: str | None = None
    fold: int | None = None
    settings: str = ""  # what else the grid gives the cell

    def __str__(self) -> str:
        key = f" (run key {self.run_key})" if self.run_key else ""
        method = f"{self.method} {self.settings}".rstrip()
        return f"{method} / {self.dataset} / {self.category} / {seed_and_fold(self.seed, self.fold)}{key}"


def unit(seed: int, fold: int | str | None) -> str:
    """Return what statistics count as one observation: `3` of seed 3, or `3.7` of its fold 7."""
    return f"{seed}" if fold in ("", None) else f"{seed}.{fold}"


def seed_and_fold(seed: int, fold: int | str | None) -> str:
    """Return how a cell's seed and fold read on the page."""
    return f"seed {seed}" if fold in ("", None) else f"seed {seed} / fold {fold}"


def holes_of_expected(
    runs: pd.DataFrame, expected: Sequence[Mapping[str, Any]]
) -> tuple[list[Hole], dict[str, tuple[Hole, ...]]]:
    """Return the expected cells whose run key no finished run has, and apart those that cannot be run.

    The latter need images that the public data set lacks: by the sentence that says which.
    """
    found = set(runs["run_key"])
    missing: dict[str | None, set[Hole]] = {}
    for cell in expected:
        if cell["run_key"] not in found:
            place = (cell["method"], cell["dataset"], cell["category"], int(cell["seed"]))
            hole = Hole(*place, cell["run_key"], cell.get("fold"), cell.get("settings", ""))
            missing.setdefault(cell.get("needs"), set()).add(hole)
    holes = _in_order(missing.pop(None, set()))
    return holes, {str(needs): tuple(_in_order(cells)) for needs, cells in missing.items()}


def holes_of_product(runs: pd.DataFrame) -> list[Hole]:
    """Return what the runs lack of their own product: every variant × data set and category × the data set's units.

    Runs that measured times are a product of their own, and so are those of a protocol: not every method has a place
    in each.
    """
    return _in_order(hole for _, kind in runs.groupby(["timing", "protocol"]) for hole in _missing(kind))


def _missing(runs: pd.DataFrame) -> Iterator[Hole]:
    found = set(zip(runs["label"], runs["dataset"], runs["category"], runs["unit"], strict=True))
    units = {name: list(of.drop_duplicates("unit").itertuples()) for name, of in runs.groupby("dataset")}
    labels = runs["label"].unique()
    for dataset, category in runs[["dataset", "category"]].drop_duplicates().itertuples(index=False, name=None):
        for label in labels:
            for row in units[dataset]:
                if (label, dataset, category, row.unit) not in found:
                    fold = int(row.fold) if row.fold else None
                    yield Hole(label, dataset, category, int(row.seed), fold=fold)


def _in_order(holes: Any) -> list[Hole]:
    return sorted(holes, key=lambda hole: (*hole[:4], -1 if hole.fold is None else hole.fold, hole.run_key or ""))

"""The numbers of a table: mean and deviation over seeds, and who is best."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from harness.report.measures import Measure
from harness.stats import best_group
from harness.stats.arrays import mean_and_std

MEAN = "Mean"
ALPHA = 0.05
DECIMALS = 10  # rounding noise of means is no variance: a test would find it significant
COLUMNS = ["dataset", "category", "is_mean", "label", "mean", "std", "n", "best", "run_ids"]


def summarise(runs: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return one row a cell of the measure's table, mean rows included.

    Columns: dataset, category (:data:`MEAN` where is_mean), label, mean and std (ddof 1; nan for one value) in the
    measure's unit, n seeds with a value, best (in the group that Welch's test at 5 % does not separate
    from the best mean; the unit of the test is the seed), run_ids.

    A data set's mean row averages the categories within each seed, over the seeds that all categories have; its std
    is over those seed means. Where no seed has all categories, it is the mean of the categories' means, n is 0.
    It exists for data sets of two or more categories, and for the methods that have a value in each of them.
    """
    scaled = runs.assign(value=(runs[measure.key] * measure.scale).round(DECIMALS))
    rows = [row for _, group in scaled.groupby("dataset", sort=True) for row in _dataset(group, measure)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _dataset(runs: pd.DataFrame, measure: Measure) -> Iterator[dict[str, object]]:
    valued = runs.dropna(subset="value")
    dataset = runs["dataset"].iloc[0]
    for category, group in valued.groupby("category", sort=True):
        samples = {str(label): of.set_index("seed")["value"] for label, of in group.groupby("label")}
        yield from _rows(group, samples, measure, {"dataset": dataset, "category": category, "is_mean": False})
    categories = valued["category"].nunique()
    if categories > 1:
        yield from _mean_row(valued, categories, measure, {"dataset": dataset, "category": MEAN, "is_mean": True})


def _mean_row(
    runs: pd.DataFrame, categories: int, measure: Measure, place: dict[str, object]
) -> Iterator[dict[str, object]]:
    samples: dict[str, pd.Series] = {}
    used = []
    for label, group in runs.groupby("label"):
        table = group.pivot(index="seed", columns="category", values="value")
        complete = table.dropna()
        if table.shape[1] < categories:
            continue
        if complete.empty:
            ids = tuple(group["run_id"])
            mean = float(table.mean().mean())
            yield place | {"label": label, "mean": mean, "std": math.nan, "n": 0, "best": False, "run_ids": ids}
            continue
        samples[str(label)] = complete.mean(axis=1).round(DECIMALS)
        used.append(group[group["seed"].isin(complete.index)])
    if samples:
        yield from _rows(pd.concat(used), samples, measure, place)


def _rows(
    runs: pd.DataFrame, samples: dict[str, pd.Series], measure: Measure, place: dict[str, object]
) -> Iterator[dict[str, object]]:
    """Yield the cells of one row of a table: a label's values over seeds, tested against the best."""
    values_of = {label: values.to_numpy() for label, values in samples.items()}
    best = best_group(values_of, ALPHA, measure.higher_is_better) if measure.tested else ()
    for label, values in samples.items():
        mean, std = mean_and_std(values.to_numpy(dtype=float))
        ids = tuple(runs.loc[runs["label"] == label, "run_id"])
        yield place | {
            "label": label,
            "mean": mean,
            "std": std,
            "n": len(values),
            "best": label in best,
            "run_ids": ids,
        }

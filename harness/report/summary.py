"""The numbers of a table: mean and deviation over seeds or folds, and who is best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from harness.report.measures import Measure
from harness.stats import best_group, best_group_paired, welch, wilcoxon_by_unit
from harness.stats.arrays import mean_and_std

MEAN = "Mean"
ALPHA = 0.05
PAIRED_ALPHA = 0.005  # as paper 001
DECIMALS = 10  # rounding noise of means is no variance: a test would find it significant
SEED, FOLD = "seed", "fold"  # units of the tests; a fold is one of a seed's
COLUMNS = ["dataset", "category", "is_mean", "label", "mean", "std", "n", "best", "run_ids", "unit"]


class Samples(NamedTuple):
    """The values behind one row of a table: one category, or the mean over a data set's.

    Attributes:
        values: label -> value by unit, in the measure's unit.
        means: label -> mean of those whose categories have no unit in common, so that there is no value by unit.
        run_ids: label -> the runs behind either.
    """

    dataset: str
    category: str
    is_mean: bool
    unit: str
    values: dict[str, pd.Series]
    means: dict[str, float]
    run_ids: dict[str, tuple[str, ...]]


def summarise(runs: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return one row a cell of the measure's table, mean rows included.

    Columns: dataset, category (:data:`MEAN` where is_mean), label, mean and std (ddof 1; nan for one value) in the
    measure's unit, n seeds or folds with a value, best (in the group that the test does not separate from the best
    mean), run_ids, unit. The test is Welch's at 5 % between seeds, and for data sets whose runs have folds Wilcoxon's
    at 0.5 %, paired by the folds of each seed.

    A data set's mean row averages the categories within each unit, over the units that all categories have; its std
    is over those means. Where no unit has all categories, it is the mean of the categories' means, n is 0.
    It exists for data sets of two or more categories, and for the methods that have a value in each of them.
    """
    rows = [row for samples in samples_of(runs, measure) for row in _rows(samples, measure)]
    return pd.DataFrame(rows, columns=COLUMNS)


def summarise_all(runs: pd.DataFrame, measures: Sequence[Measure]) -> pd.DataFrame:
    """Return the summaries of several measures below each other, with a column `measure`: its key."""
    summaries = [summarise(runs, measure).assign(measure=measure.key) for measure in measures]
    return pd.concat(summaries, ignore_index=True)


def samples_of(runs: pd.DataFrame, measure: Measure) -> Iterator[Samples]:
    """Yield the values behind each row of a measure's table; rows without any value are left out."""
    valued = runs.assign(value=(runs[measure.key] * measure.scale).round(DECIMALS)).dropna(subset="value")
    for dataset, of_dataset in valued.groupby("dataset", sort=True):
        unit = FOLD if (of_dataset["fold"] != "").all() else SEED
        for category, group in of_dataset.groupby("category", sort=True):
            values = {str(label): of.set_index("unit")["value"] for label, of in group.groupby("label")}
            ids = {str(label): tuple(of["run_id"]) for label, of in group.groupby("label")}
            yield Samples(str(dataset), str(category), False, unit, values, {}, ids)
        if of_dataset["category"].nunique() > 1:
            yield _over_categories(str(dataset), unit, of_dataset)


def _over_categories(dataset: str, unit: str, runs: pd.DataFrame) -> Samples:
    found = Samples(dataset, MEAN, True, unit, {}, {}, {})
    categories = runs["category"].nunique()
    for label, group in runs.groupby("label"):
        table = group.pivot(index="unit", columns="category", values="value")
        complete = table.dropna()
        if table.shape[1] < categories:
            continue
        if complete.empty:
            found.means[str(label)] = float(table.mean().mean())
            found.run_ids[str(label)] = tuple(group["run_id"])
        else:
            found.values[str(label)] = complete.mean(axis=1).round(DECIMALS)
            found.run_ids[str(label)] = tuple(group.loc[group["unit"].isin(complete.index), "run_id"])
    return found


def _rows(samples: Samples, measure: Measure) -> Iterator[dict[str, object]]:
    """Yield the cells of one row of a table, the best of them found by the test."""
    place = {"dataset": samples.dataset, "category": samples.category, "is_mean": samples.is_mean}
    best = _best(samples, measure.higher_is_better) if measure.tested else ()
    for label, mean in samples.means.items():
        numbers = {"mean": mean, "std": math.nan, "n": 0, "best": False}
        yield place | {"label": label} | numbers | {"run_ids": samples.run_ids[label], "unit": samples.unit}
    for label, values in samples.values.items():
        mean, std = mean_and_std(values.to_numpy(dtype=float))
        numbers = {"mean": mean, "std": std, "n": len(values), "best": label in best}
        yield place | {"label": label} | numbers | {"run_ids": samples.run_ids[label], "unit": samples.unit}


def _best(samples: Samples, higher_is_better: bool) -> tuple[str, ...]:
    if samples.unit == FOLD:
        by_fold = {label: values.to_dict() for label, values in samples.values.items()}
        return best_group_paired(by_fold, PAIRED_ALPHA, higher_is_better)
    by_seed = {label: values.to_numpy() for label, values in samples.values.items()}
    return best_group(by_seed, ALPHA, higher_is_better)


def pvalue(samples: Samples, a: str, b: str) -> float:
    """Return the p value of the difference between two labels, by the test that goes with the unit."""
    one, other = samples.values[a], samples.values[b]
    if samples.unit == FOLD:
        return wilcoxon_by_unit(one.to_dict(), other.to_dict()).pvalue
    return welch(one.to_numpy(), other.to_numpy()).pvalue

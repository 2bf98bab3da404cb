"""The numbers of a table: mean and deviation over seeds or folds, and who is best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from harness.report.measures import Measure
from harness.stats import welch, wilcoxon_by_unit
from harness.stats.arrays import mean_and_std
from harness.stats.best import NO_COMPARISON, AgainstBest, against_best, against_best_paired

MEAN = "Mean"
ALPHA = 0.05
PAIRED_ALPHA = 0.005  # as paper 001
DECIMALS = 10  # rounding noise of means is no variance: a test would find it significant
SEED, FOLD = "seed", "fold"  # units of the tests; a fold is one of a seed's
TESTED = ["pvalue", "holm", "best_after_holm"]
COLUMNS = ["dataset", "category", "is_mean", "label", "mean", "std", "n", "best", "run_ids", "unit", "measure", *TESTED]


class Samples(NamedTuple):
    """The values behind one row of a table: one category, or the mean over a data set's.

    Attributes:
        values: label -> value by unit, in the measure's unit.
        means: label -> mean of those whose categories have no unit in common, so that there is no value by unit.
        run_ids: label -> the runs behind either.
        categories: those that are averaged, or the one.
    """

    dataset: str
    category: str
    is_mean: bool
    unit: str
    values: dict[str, pd.Series]
    means: dict[str, float]
    run_ids: dict[str, tuple[str, ...]]
    categories: tuple[str, ...]


def summarise(runs: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return one row a cell of the measure's table, mean rows included.

    Columns: dataset, category (:data:`MEAN` where is_mean), label, mean and std (ddof 1; nan for one value) in the
    measure's unit, n seeds or folds with a value, best, run_ids, unit, measure (its key), pvalue (of the difference
    from the best mean of the row) and holm (the same, corrected for the tests of the row); both nan for the best itself
    and where there is no test.

    best, between seeds: the best mean and all that Welch's test does not separate from it at 5 %, as paper 002; and
    best_after_holm the same after the correction. In data sets whose runs have folds: the best mean, if Wilcoxon's test
    at 0.5 %, paired by the folds of each seed, separates it from the second best, as paper 001.

    A data set's mean row averages the categories within each unit, over the units that all categories have; its std
    is over those means. Where no unit has all categories, it is the mean of the categories' means, n is 0.
    It exists for data sets of two or more categories, and for the methods that have a value in each of them.
    """
    rows = [row for samples in samples_of(runs, measure) for row in rows_of(samples, measure)]
    return pd.DataFrame(rows, columns=COLUMNS)


def summarise_all(runs: pd.DataFrame, measures: Sequence[Measure]) -> pd.DataFrame:
    """Return the summaries of several measures below each other."""
    return pd.concat([summarise(runs, measure) for measure in measures], ignore_index=True)


def means_or_only(numbers: pd.DataFrame) -> pd.Series:
    """Return which rows are a data set's mean over its categories, or a category of one that has no mean."""
    with_mean = set(numbers.loc[numbers["is_mean"], "dataset"])
    return numbers["is_mean"] | ~numbers["dataset"].isin(with_mean)


def samples_of(runs: pd.DataFrame, measure: Measure) -> Iterator[Samples]:
    """Yield the values behind each row of a measure's table; rows without any value are left out."""
    for dataset, of_dataset in _valued(runs, measure).groupby("dataset", sort=True):
        unit = _unit(of_dataset)
        for category, group in of_dataset.groupby("category", sort=True):
            columns = {name: group[name].to_numpy() for name in ("value", "unit", "run_id")}
            values, ids = {}, {}
            for label, rows in group.groupby("label", sort=True).indices.items():
                values[str(label)] = pd.Series(columns["value"][rows], columns["unit"][rows], name="value")
                ids[str(label)] = tuple(columns["run_id"][rows])
            yield Samples(str(dataset), str(category), False, unit, values, {}, ids, (str(category),))
        if of_dataset["category"].nunique() > 1:
            yield _over_categories(str(dataset), MEAN, unit, of_dataset)


def samples_over(dataset: str, name: str, runs: pd.DataFrame, measure: Measure) -> Samples | None:
    """Return the values averaged over the categories of some runs of one data set, under a name; None without any."""
    valued = _valued(runs, measure)
    return _over_categories(dataset, name, _unit(valued), valued) if len(valued) else None


def _valued(runs: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    return runs.assign(value=(runs[measure.key] * measure.scale).round(DECIMALS)).dropna(subset="value")


def _unit(runs: pd.DataFrame) -> str:
    return FOLD if (runs["fold"] != "").all() else SEED


def _over_categories(dataset: str, name: str, unit: str, runs: pd.DataFrame) -> Samples:
    names = tuple(sorted(runs["category"].unique()))
    found = Samples(dataset, name, True, unit, {}, {}, {}, names)
    for label, group in runs.groupby("label"):
        table = group.pivot(index="unit", columns="category", values="value")
        complete = table.dropna()
        if table.shape[1] < len(names):
            continue
        if complete.empty:
            found.means[str(label)] = float(table.mean().mean())
            found.run_ids[str(label)] = tuple(group["run_id"])
        else:
            found.values[str(label)] = complete.mean(axis=1).round(DECIMALS)
            found.run_ids[str(label)] = tuple(group.loc[group["unit"].isin(complete.index), "run_id"])
    return found


def rows_of(samples: Samples, measure: Measure) -> Iterator[dict[str, object]]:
    """Yield the cells of one row of a table, the best of them found by the test."""
    place = {"dataset": samples.dataset, "category": samples.category, "is_mean": samples.is_mean}
    place |= {"unit": samples.unit, "measure": measure.key}
    tests = _tests(samples, measure.higher_is_better) if measure.tested else NO_COMPARISON
    best, after_holm = _bold(samples, tests, measure.higher_is_better)
    untested = {"pvalue": math.nan, "holm": math.nan, "best_after_holm": False}
    for label, mean in samples.means.items():
        numbers = {"mean": mean, "std": math.nan, "n": 0, "best": False}
        yield place | {"label": label} | numbers | {"run_ids": samples.run_ids[label]} | untested
    for label, values in samples.values.items():
        mean, std = mean_and_std(values.to_numpy(dtype=float))
        numbers = {"mean": mean, "std": std, "n": len(values), "best": label in best}
        p = {"pvalue": tests.pvalues.get(label, math.nan), "holm": tests.holm.get(label, math.nan)}
        found = p | {"best_after_holm": label in after_holm}
        yield place | {"label": label} | numbers | {"run_ids": samples.run_ids[label]} | found


def _tests(samples: Samples, higher_is_better: bool) -> AgainstBest:
    if samples.unit == FOLD:
        by_fold = {label: values.to_dict() for label, values in samples.values.items()}
        return against_best_paired(by_fold, PAIRED_ALPHA, higher_is_better)
    by_seed = {label: values.to_numpy() for label, values in samples.values.items()}
    return against_best(by_seed, higher_is_better)


def _bold(samples: Samples, tests: AgainstBest, higher_is_better: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who is bold without correction, and who would be after Holm's."""
    if samples.unit == SEED:
        return tests.group(ALPHA), tests.group_after_holm(ALPHA)
    if tests.best is None:
        return (), ()
    sign = 1.0 if higher_is_better else -1.0
    second = max(tests.pvalues, key=lambda label: sign * float(samples.values[label].mean()))
    best = (tests.best,)
    return best if tests.pvalues[second] < PAIRED_ALPHA else (), best if tests.holm[second] < PAIRED_ALPHA else ()


def pvalue(samples: Samples, a: str, b: str) -> float:
    """Return the p value of the difference between two labels, by the test that goes with the unit."""
    one, other = samples.values[a], samples.values[b]
    if samples.unit == FOLD:
        return wilcoxon_by_unit(one.to_dict(), other.to_dict()).pvalue
    return welch(one.to_numpy(), other.to_numpy()).pvalue

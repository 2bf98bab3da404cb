"""Settings two by two: how large a difference is, whether it is shown, and whether equality is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.report.figures import Figure, slug_of
from harness.report.measures import Measure
from harness.report.options import BENJAMINI_HOCHBERG, HOLM
from harness.report.significance_plots import draw_pvalue_matrix
from harness.report.summary import FOLD, Samples, samples_of
from harness.report.tables import Cell, Row, Table, signed
from harness.stats import (
    benjamini_hochberg,
    detectable_points,
    hedges_g,
    holm,
    mean_difference_from_summary,
    nadeau_bengio,
    probability_of_superiority,
    rank_biserial,
    seeds_needed_for_points,
    smallest_pvalue,
    tost_from_summary,
    welch_from_summary,
    wilcoxon,
)
from harness.stats.arrays import mean_and_std, summarize

SECTION = "Differences"
LEVEL = 0.05
MARGIN = 1.0  # percentage points that count as no difference that matters
POWER = 0.8
KEYS = ("test/image_auroc", "test/pixel_auroc", "test/aupro", "test/auspro", "test/class_auroc_ovr")
DRAWN = KEYS[:2]  # as a matrix
MOST_PAIRS = 45  # of a data set on the page: ten settings; of more only those with the best are shown
DIFFERENT, EQUAL, UNDECIDED, NO_TEST = "different", f"equal ±{MARGIN:g}", "undecided", "no test"


class Correction(NamedTuple):
    """How p values are corrected for the number of tests."""

    function: Callable[[Any], Any]
    name: str  # over a column
    text: str  # in a caption


CORRECTIONS = {
    HOLM: Correction(holm, "Holm", "as corrected by Holm (chance of any error)"),
    BENJAMINI_HOCHBERG: Correction(
        benjamini_hochberg, "BH", "as corrected by Benjamini and Hochberg (share of errors)"
    ),
}
CAPTION = (
    "{title}, settings two by two over {units}: difference of the means in percentage points with its 95 % interval "
    "(Welch), p value of Welch's two-sided t-test, raw and {how} for the {tests} pairs of this table, and effect sizes "
    "with 95 % intervals: Hedges' g (noncentral t) and the probability that a run of the first beats one of the "
    "second. equal ±{margin:g}: two one-sided Welch tests at 5 % show that the difference is less than {margin:g} "
    "point; different: corrected p below 0.05; undecided: neither, and then, for a power of 80 %: the smallest "
    "difference that this many seeds find, and the seeds that {margin:g} point would take, given the deviations seen."
)
FOLD_CAPTION = (
    "{title}, settings two by two over the folds that both have: mean difference in percentage points, p value of "
    "Wilcoxon's two-sided signed-rank test, raw and {how} for the {tests} pairs of this table, matched-pairs "
    "rank-biserial correlation with its 95 % interval (bootstrap). Folds share training images, so that Wilcoxon's p "
    "is too small (anticonservative); beside it is that of the corrected resampled t-test (Nadeau and Bengio 2003), by "
    "which a verdict is given. no test: the smallest p that so many folds can reach is not below 5 %."
)


MATRIX_CAPTION = (
    "Corrected p values of {title}, row against column: blue where the row is better, orange where it is worse, grey "
    "where the test does not separate them, hatched where there is no test. Numbers of the table {table}."
)


class Pairs(NamedTuple):
    """All pairs of a measure: the tidy frame behind table and figure."""

    measure: Measure
    numbers: pd.DataFrame
    correction: str


def compare(runs: pd.DataFrame, measures: Sequence[Measure], labels: Sequence[str], correction: str) -> list[Pairs]:
    """Return the pairs of every main measure in which two or more settings have two or more units."""
    found = [Pairs(m, all_pairs(runs, m, labels, correction), correction) for m in measures if m.key in KEYS]
    return [pairs for pairs in found if len(pairs.numbers)]


def pair_tables(found: Sequence[Pairs]) -> list[Table]:
    """Return a table a measure."""
    return [_table(pairs) for pairs in found]


def all_pairs(runs: pd.DataFrame, measure: Measure, labels: Sequence[str], correction: str = HOLM) -> pd.DataFrame:
    """Return one row a pair of settings and category (or mean of categories), both with two or more units.

    Columns: those of a summary, with label `a − b` and mean the difference of means; a, b; the test's pvalue, and as
    corrected for all pairs that the table shows (means over categories, or the only category of a data set); pairs of
    a single category are corrected within it. Then interval, equivalence, effect sizes and verdict.
    """
    rows: list[dict[str, Any]] = []
    found = list(samples_of(runs, measure))
    for samples in found:
        able = [label for label in labels if len(samples.values.get(label, ())) > 1]
        rows += _by_fold(samples, able) if samples.unit == FOLD else _by_seed(samples, able)
    numbers = pd.DataFrame(rows)
    if numbers.empty:
        return numbers
    family = (numbers["dataset"] + "/" + numbers["category"]).mask(_shown(numbers), "")
    numbers["corrected"] = numbers.groupby(family)["pvalue"].transform(CORRECTIONS[correction].function)
    verdicts = [_verdict(row) for row in numbers.to_dict("records")]
    return _with_effects(numbers.assign(measure=measure.key, verdict=verdicts), found)


def _with_effects(numbers: pd.DataFrame, found: Sequence[Samples]) -> pd.DataFrame:
    samples = {(of.dataset, of.category): of for of in found if of.unit != FOLD}
    printed = shown_pairs(numbers)
    effects = {
        row.Index: _effects(samples[row.dataset, row.category], row.a, row.b)
        for row in printed.itertuples()
        if (row.dataset, row.category) in samples
    }
    return numbers.join(pd.DataFrame.from_dict(effects, orient="index"), rsuffix="_of_seeds") if effects else numbers


def _shown(numbers: pd.DataFrame) -> pd.Series:
    """Which rows are a data set's mean, or a category of one without."""
    with_mean = set(numbers.loc[numbers["is_mean"], "dataset"])
    return numbers["is_mean"] | ~numbers["dataset"].isin(with_mean)


def _place(samples: Samples, a: str, b: str) -> dict[str, Any]:
    return {
        "dataset": samples.dataset,
        "category": samples.category,
        "is_mean": samples.is_mean,
        "label": f"{a} − {b}",
        "a": a,
        "b": b,
        "best": False,
        "run_ids": samples.run_ids[a] + samples.run_ids[b],
        "unit": samples.unit,
    }


def _by_seed(samples: Samples, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield every pair; each sample is summarised once, for it is in as many pairs as there are others."""
    summaries = {label: summarize(samples.values[label].to_numpy(dtype=float)) for label in labels}
    for a, b in combinations(labels, 2):
        both = (*summaries[a], *summaries[b])
        interval = mean_difference_from_summary(*both)
        yield _place(samples, a, b) | {
            "mean": interval.difference,
            "std": math.nan,
            "n": min(summaries[a].n, summaries[b].n),
            "low": interval.low,
            "high": interval.high,
            "pvalue": welch_from_summary(*both).pvalue,
            "tost": tost_from_summary(*both, margin=MARGIN).pvalue,
        }


def _effects(samples: Samples, a: str, b: str) -> dict[str, float]:
    """Return effect sizes and what the seeds can find: of printed pairs, for they take a hundred times as long."""
    one, other = (samples.values[label].to_numpy(dtype=float) for label in (a, b))
    effect, chance = hedges_g(one, other), probability_of_superiority(one, other)
    stds = mean_and_std(one)[1], mean_and_std(other)[1]
    return {
        "effect": effect.value,
        "effect_low": effect.low,
        "effect_high": effect.high,
        "superiority": chance.value,
        "superiority_low": chance.low,
        "superiority_high": chance.high,
        "detectable": detectable_points(*stds, min(len(one), len(other)), POWER, LEVEL),
        "seeds_needed": seeds_needed_for_points(MARGIN, *stds, POWER, LEVEL),
    }


def _by_fold(samples: Samples, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    for a, b in combinations(labels, 2):
        yield _place(samples, a, b) | _folds_of_both(samples, a, b)


def _folds_of_both(samples: Samples, a: str, b: str) -> dict[str, Any]:
    both = samples.values[a].index.intersection(samples.values[b].index)
    one, other = (samples.values[label].loc[both].to_numpy(dtype=float) for label in (a, b))
    folds = max(2, len({str(unit).partition(".")[2] for unit in both}))
    effect = rank_biserial(one, other)
    able = smallest_pvalue(len(both)) < LEVEL
    return {
        "mean": float(np.mean(one - other)) if len(both) else math.nan,
        "std": math.nan,
        "n": len(both),
        "low": math.nan,
        "high": math.nan,
        "pvalue": wilcoxon(one, other).pvalue if able else math.nan,
        "tost": math.nan,
        "effect": effect.value,
        "effect_low": effect.low,
        "effect_high": effect.high,
        "smallest_pvalue": smallest_pvalue(len(both)),
        "resampled": nadeau_bengio(one, other, 1 / (folds - 1)).pvalue if able else math.nan,
    }


def _verdict(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["corrected"]):
        return NO_TEST
    if row["unit"] == FOLD:
        return DIFFERENT if max(row["corrected"], row["resampled"]) < LEVEL else UNDECIDED
    if row["tost"] < LEVEL:
        return EQUAL
    return DIFFERENT if row["corrected"] < LEVEL else UNDECIDED


def _table(pairs: Pairs) -> Table:
    """Lay out the pairs of each data set's mean (or only category); the CSV has every category."""
    numbers, measure = pairs.numbers, pairs.measure
    shown = shown_pairs(numbers)
    folds = set(shown["unit"]) == {FOLD}
    rows = [
        Row(r["dataset"], r["category"], tuple(_cells(r)), r["is_mean"], (r["label"],))
        for r in shown.to_dict("records")
    ]
    how = CORRECTIONS[pairs.correction]
    facts = {"title": measure.title, "units": _units(shown), "margin": MARGIN, "how": how.text}
    text = (FOLD_CAPTION if folds else CAPTION).format(tests=int(_shown(numbers).sum()), **facts)
    if shown["is_mean"].any():
        text += " Shown are means over the categories; the CSV has every category, corrected within each."
    if len(shown) < _shown(numbers).sum():
        text += " Of many settings the pairs with the best one are shown; the CSV has all."
    by_seed = (
        "Difference",
        "95 % interval",
        "p",
        f"p ({how.name})",
        "Hedges' g",
        "P(first better)",
        "Verdict",
        "Seeds",
    )
    by_fold = ("Difference", "p (Wilcoxon)", f"p ({how.name})", "p (Nadeau–Bengio)", "Rank-biserial", "Verdict")
    columns: tuple[str, ...] = by_fold if folds else by_seed
    title = f"{measure.title}: settings two by two"
    return Table(f"pairs_{measure.name}", title, text, columns, tuple(rows), numbers, SECTION, ("Category", "Pair"))


def shown_pairs(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of each data set's mean, or of its only category; of many those with the best setting."""
    shown = numbers[_shown(numbers)]
    kept = []
    for _, group in shown.groupby(["dataset", "category"], sort=False):
        kept.append(group if len(group) <= MOST_PAIRS else _with_best(group))
    return pd.concat(kept) if kept else shown


def _with_best(group: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with the setting that is better than most."""
    wins = pd.concat([group.loc[group["mean"] > 0, "a"], group.loc[group["mean"] < 0, "b"]]).value_counts()
    best = sorted(wins[wins == wins.max()].index)[0]
    return group[(group["a"] == best) | (group["b"] == best)]


def _units(numbers: pd.DataFrame) -> str:
    counts = sorted(set(numbers["n"]))
    unit = "fold" if set(numbers["unit"]) == {FOLD} else "seed"
    return f"{' to '.join(str(n) for n in (counts[0], counts[-1])[: len(counts)])} {unit}s"


def _cells(row: dict[str, Any]) -> Iterator[Cell | None]:
    different = row["verdict"] == DIFFERENT
    yield Cell(signed(row["mean"], 2), bold=different)
    if row["unit"] == FOLD:
        yield from (
            _p(row["pvalue"]),
            _p(row["corrected"]),
            _p(row["resampled"]),
            _interval(row, "effect"),
            Cell(row["verdict"]),
        )
        return
    yield Cell(f"[{row['low']:.2f}, {row['high']:.2f}]") if not math.isnan(row["low"]) else None
    yield from (_p(row["pvalue"]), _p(row["corrected"]), _interval(row, "effect"), _interval(row, "superiority"))
    yield Cell(row["verdict"])
    undecided = row["verdict"] == UNDECIDED and row["seeds_needed"] > row["n"]
    yield Cell(f"finds {row['detectable']:.1f}, needs {row['seeds_needed']:.0f}") if undecided else None


def _interval(row: dict[str, Any], name: str) -> Cell | None:
    if math.isnan(row[name]):
        return None
    return Cell(f"{row[name]:.2f}", note=f"[{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]")


def _p(value: float) -> Cell | None:
    return None if math.isnan(value) else Cell("< 0.001" if value < 0.001 else f"{value:.3f}")


def draw_matrices(found: Sequence[Pairs], labels: Sequence[str], folder: Path) -> Iterator[Figure]:
    """Draw the corrected p values of the first tables' pairs, a figure a data set of three or more settings."""
    for pairs in (pairs for pairs in found if pairs.measure.key in DRAWN):
        shown = pairs.numbers[_shown(pairs.numbers)]
        for (dataset, category), group in shown.groupby(["dataset", "category"], sort=False):
            own = [label for label in labels if label in {*group["a"], *group["b"]}]
            if len(own) > 2:
                yield _matrix(pairs, f"{dataset} / {category}", group, own, folder)


def _matrix(pairs: Pairs, place: str, group: pd.DataFrame, labels: Sequence[str], folder: Path) -> Figure:
    at = {label: i for i, label in enumerate(labels)}
    p, differences = np.full((2, len(labels), len(labels)), math.nan)
    for row in group.to_dict("records"):
        i, j = at[row["a"]], at[row["b"]]
        p[i, j] = p[j, i] = row["corrected"]
        differences[i, j], differences[j, i] = row["mean"], -row["mean"]
    title = f"{place}: {pairs.measure.title}"
    caption = MATRIX_CAPTION.format(title=pairs.measure.title, table=f"pairs_{pairs.measure.name}")
    name = f"pairs_{pairs.measure.name}_{slug_of(place.replace(' / ', '_'))}"
    lines = {row["label"]: list(row["run_ids"]) for row in group.to_dict("records")}
    higher = pairs.measure.higher_is_better
    return draw_pvalue_matrix(name, title, labels, p, differences, folder, caption, lines, higher)

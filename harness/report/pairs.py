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
from harness.report.summary import ALPHA, FOLD, Samples, means_or_only, samples_of
from harness.report.tables import Cell, Row, Table, interval_cell, p_cell, signed
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
MARGIN = 1.0  # percentage points that count as no difference that matters
POWER = 0.8
KEYS = ("test/image_auroc", "test/pixel_auroc", "test/aupro", "test/auspro", "test/class_auroc_ovr")
CORRECTED = {"pvalue": "corrected", "tost": "tost_corrected", "resampled": "resampled_corrected"}
DRAWN = KEYS[:1]  # as a matrix
MOST_PAIRS = 45  # of a data set on the page: ten settings; of more only those with the best are shown
DIFFERENT, EQUAL, UNDECIDED, NO_TEST = "different", f"equal ±{MARGIN:g}", "undecided", "no test"
BOTH = f"different, by less than {MARGIN:g}"


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
    "(Welch), p value of Welch's two-sided t-test, raw and {how} for {tests} pairs, and effect sizes "
    "with 95 % intervals: Hedges' g (noncentral t) and the probability that a run of the first beats one of the "
    "second. different: corrected p below 0.05; equal ±{margin:g}: two one-sided Welch tests show that the difference "
    "is less than {margin:g} point, at 5 % and corrected alike; undecided: neither, and then, for a power of 80 % at "
    "the level that is left for one of the pairs (5 % / {tests}): the smallest difference that this many seeds find, "
    "and about how many seeds {margin:g} point would take, given the deviations seen; no test: no setting of the two "
    "has any variance over the seeds."
)
FOLD_CAPTION = (
    "{title}, settings two by two over the folds that both have: mean difference in percentage points, p value of "
    "Wilcoxon's two-sided signed-rank test and of the corrected resampled t-test (Nadeau and Bengio 2003), each raw "
    "and {how} for the pairs of a category, and matched-pairs rank-biserial correlation with its 95 % interval "
    "(bootstrap). Folds share training images, so that Wilcoxon's p is too small (anticonservative): a verdict goes by "
    "the other, at 5 %. The smallest p that Wilcoxon's test can have here is {least:.3g}, corrected "
    "{least_corrected:.3g}; it is left out (–) where no folds whatever could bring the corrected one below 5 %."
)
MATRIX_CAPTION = "Corrected p values of {title}, row against column; hatched: no test. Numbers of the table {table}."


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
    """Return a table a measure, and one for data sets whose runs have folds."""
    tables = []
    for pairs in found:
        by_fold = pairs.numbers["unit"] == FOLD
        tables += [_by_seed_table(pairs, pairs.numbers[~by_fold])] if not by_fold.all() else []
        tables += [_by_fold_table(pairs, pairs.numbers[by_fold])] if by_fold.any() else []
    return tables


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
    folds = numbers["unit"] == FOLD
    family = (numbers["dataset"] + "/" + numbers["category"]).mask(means_or_only(numbers) & ~folds, "")
    correct = CORRECTIONS[correction].function
    numbers["tests"] = numbers.groupby(family)["label"].transform("size")
    for raw, corrected in CORRECTED.items():
        if raw in numbers:
            numbers[corrected] = numbers.groupby(family)[raw].transform(correct)
    least = [smallest_pvalue(n, tests) for n, tests in zip(numbers["n"], numbers["tests"], strict=True)]
    hopeless = folds & (pd.Series(least, numbers.index) >= ALPHA)
    numbers.loc[hopeless, ["pvalue", "corrected"]] = math.nan  # Wilcoxon's test could not find anything
    verdicts = [_verdict(row) for row in numbers.to_dict("records")]
    return _with_effects(numbers.assign(measure=measure.key, verdict=verdicts), found)


def _with_effects(numbers: pd.DataFrame, found: Sequence[Samples]) -> pd.DataFrame:
    samples = {(of.dataset, of.category): of for of in found if of.unit != FOLD}
    printed = shown_pairs(numbers)
    effects = {
        row.Index: _effects(samples[row.dataset, row.category], row.a, row.b, row.tests)
        for row in printed.itertuples()
        if (row.dataset, row.category) in samples and row.verdict != NO_TEST
    }
    for name, column in pd.DataFrame.from_dict(effects, orient="index").items():
        numbers.loc[column.index, name] = column
    return numbers


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
        varied = summaries[a].std > 0 or summaries[b].std > 0  # else seeds are copies of one run, and no sample
        yield _place(samples, a, b) | {
            "mean": interval.difference,
            "std": math.nan,
            "n": min(summaries[a].n, summaries[b].n),
            "low": interval.low,
            "high": interval.high,
            "pvalue": welch_from_summary(*both).pvalue if varied else math.nan,
            "tost": tost_from_summary(*both, margin=MARGIN).pvalue if varied else math.nan,
        }


def _effects(samples: Samples, a: str, b: str, tests: int) -> dict[str, float]:
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
        "detectable": detectable_points(*stds, min(len(one), len(other)), POWER, ALPHA / tests),
        "seeds_needed": seeds_needed_for_points(MARGIN, *stds, POWER, ALPHA / tests),
    }


def _by_fold(samples: Samples, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    folds = {str(unit).partition(".")[2] for values in samples.values.values() for unit in values.index}
    for a, b in combinations(labels, 2):
        both = samples.values[a].index.intersection(samples.values[b].index)
        if len(both) > 1:
            yield _place(samples, a, b) | _on_folds(samples, a, b, both, max(2, len(folds)))


def _on_folds(samples: Samples, a: str, b: str, both: pd.Index, folds: int) -> dict[str, Any]:
    """Compare two settings on the folds that both have, of so many that the data were cut into."""
    one, other = (samples.values[label].loc[both].to_numpy(dtype=float) for label in (a, b))
    effect = rank_biserial(one, other)
    return {
        "mean": float(np.mean(one - other)),
        "std": math.nan,
        "n": len(both),
        "low": math.nan,
        "high": math.nan,
        "pvalue": wilcoxon(one, other).pvalue,
        "tost": math.nan,
        "effect": effect.value,
        "effect_low": effect.low,
        "effect_high": effect.high,
        "smallest_pvalue": smallest_pvalue(len(both)),
        "resampled": nadeau_bengio(one, other, 1 / (folds - 1)).pvalue,
    }


def _verdict(row: Mapping[Any, Any]) -> str:
    by_fold = row["unit"] == FOLD
    different = row["resampled_corrected"] if by_fold else row["corrected"]
    if math.isnan(different):
        return NO_TEST
    if by_fold:
        return DIFFERENT if different < ALPHA else UNDECIDED
    return decided(different, row["tost_corrected"], EQUAL)


def decided(different: float, equal: float, shown_equal: str) -> str:
    """Return what two corrected p values tell: of a difference, and of one that is less than the margin.

    Args:
        different: p value of the test for a difference.
        equal: p value of the test for equivalence.
        shown_equal: what equivalence without a difference is called.
    """
    found, small = different < ALPHA, equal < ALPHA
    return BOTH if found and small else shown_equal if small else DIFFERENT if found else UNDECIDED


def _by_seed_table(pairs: Pairs, numbers: pd.DataFrame) -> Table:
    name = CORRECTIONS[pairs.correction].name
    columns = ("Difference", "95 % interval", "p", f"p ({name})", "Hedges' g", "P(first better)", "Verdict", "Seeds")
    return _table(pairs, numbers, "", CAPTION, columns)


def _by_fold_table(pairs: Pairs, numbers: pd.DataFrame) -> Table:
    name = CORRECTIONS[pairs.correction].name
    of_wilcoxon = ("p (Wilcoxon)", f"p (Wilcoxon, {name})")
    columns = ("Difference", *of_wilcoxon, "p (Nadeau–Bengio)", f"p (NB, {name})", "Rank-biserial", "Verdict")
    return _table(pairs, numbers, "_folds", FOLD_CAPTION, columns)


def _table(pairs: Pairs, numbers: pd.DataFrame, suffix: str, caption: str, columns: tuple[str, ...]) -> Table:
    """Lay out the pairs of each data set's mean (or only category); the CSV has every category."""
    shown, measure = shown_pairs(numbers), pairs.measure
    rows = [
        Row(r["dataset"], r["category"], tuple(_cells(r)), r["is_mean"], (r["label"],))
        for r in shown.to_dict("records")
    ]
    least = smallest_pvalue(int(shown["n"].max()))
    facts = {"title": measure.title, "units": _units(shown), "margin": MARGIN, "least": least}
    facts |= {
        "how": CORRECTIONS[pairs.correction].text,
        "tests": max(1, int(numbers.loc[means_or_only(numbers), "pvalue"].notna().sum())),
    }
    text = caption.format(least_corrected=min(1.0, least * shown["tests"].max()), **facts)
    if shown["is_mean"].any():
        text += " Shown are means over the categories; the CSV has every category, corrected within each."
    if len(shown) < means_or_only(numbers).sum():
        text += " Of many settings the pairs with the best one are shown; the CSV has all."
    name, title = f"pairs_{measure.name}{suffix}", f"{measure.title}: settings two by two"
    return Table(name, title, text, columns, tuple(rows), numbers, SECTION, ("Category", "Pair"), "pair")


def shown_pairs(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of each data set's mean, or of its only category; of many those with the best setting."""
    shown = numbers[means_or_only(numbers)]
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
    yield Cell(signed(row["mean"], 2), bold=row["verdict"] in (DIFFERENT, BOTH))
    if row["unit"] == FOLD:
        tests = ("pvalue", "corrected", "resampled", "resampled_corrected")
        yield from (*(p_cell(row[name]) for name in tests), _interval(row, "effect"), Cell(row["verdict"]))
        return
    yield interval_cell(row["low"], row["high"], 2)
    yield from (p_cell(row["pvalue"]), p_cell(row["corrected"]))
    yield from (_interval(row, "effect"), _interval(row, "superiority"), Cell(row["verdict"]))
    undecided = row["verdict"] == UNDECIDED and row["seeds_needed"] > row["n"]
    yield Cell(f"finds {row['detectable']:.1f}, needs {_about(row['seeds_needed'])}") if undecided else None


def _about(number: float) -> str:
    """Return a number in two digits: what it rests on is no more certain."""
    return f"{float(f'{number:.2g}'):.0f}"


def _interval(row: dict[str, Any], name: str) -> Cell | None:
    if math.isnan(row.get(name, math.nan)):
        return None
    return Cell(f"{row[name]:.2f}", note=f"[{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]")


def draw_matrices(found: Sequence[Pairs], labels: Sequence[str], folder: Path) -> Iterator[Figure]:
    """Draw the corrected p values of the first tables' pairs, a figure a data set of three or more settings."""
    for pairs in (pairs for pairs in found if pairs.measure.key in DRAWN):
        shown = pairs.numbers[means_or_only(pairs.numbers)]
        for (dataset, category), group in shown.groupby(["dataset", "category"], sort=False):
            own = [label for label in labels if label in {*group["a"], *group["b"]}]
            if len(own) > 2:
                yield _matrix(pairs, f"{dataset} / {category}", group, own, folder)


def _matrix(pairs: Pairs, place: str, group: pd.DataFrame, labels: Sequence[str], folder: Path) -> Figure:
    at = {label: i for i, label in enumerate(labels)}
    p, differences = np.full((2, len(labels), len(labels)), math.nan)
    for row in group.to_dict("records"):
        i, j = at[row["a"]], at[row["b"]]
        p[i, j] = p[j, i] = row["resampled_corrected"] if row["unit"] == FOLD else row["corrected"]
        differences[i, j], differences[j, i] = row["mean"], -row["mean"]
    title = f"{place}: {pairs.measure.title}"
    caption = MATRIX_CAPTION.format(title=pairs.measure.title, table=f"pairs_{pairs.measure.name}")
    name = f"pairs_{pairs.measure.name}_{slug_of(place.replace(' / ', '_'))}"
    lines = {row["label"]: list(row["run_ids"]) for row in group.to_dict("records")}
    higher = pairs.measure.higher_is_better
    return draw_pvalue_matrix(name, title, labels, p, differences, folder, caption, lines, higher)

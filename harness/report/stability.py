"""How steady the epoch metrics are (paper 000, Fig. 4): three numbers a run, compared between settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import pandas as pd

from harness.report.captions import TESTS
from harness.report.measures import Measure
from harness.report.summary import ALPHA, SEED, Samples, means_or_only, pvalue, samples_of, summarise_all
from harness.report.tables import Cell, Row, Table, p_text, tall
from harness.stats import holm, stability, welch_from_summary
from harness.stats.arrays import summarize
from harness.stats.stability import LAST_EPOCHS

SECTION = "Stability over the epochs"
FEWEST_EPOCHS = 3
METRICS = {"test/image_auroc": "image AUROC", "test/pixel_auroc": "pixel AUROC", "test/aupro": "AUPRO"}
POINTS = "percentage points"
CAPTION = (
    "How steady {metric} on the test images is over the epochs of a run. Convergence is the first epoch within 1 % of "
    "the final value. Worst drop: the largest fall from there on below the best epoch so far, in percentage points; "
    f"deviation: sample standard deviation over a run's last {LAST_EPOCHS} epochs (all, if fewer), in percentage "
    "points; settled: the first epoch, from 0, after which the metric stays within 1 % of its final value. Less is "
    "steadier, and best. Trainable methods of 3 or more epochs."
)
PAIRS_CAPTION = (
    "Settings two by two: the difference of their means in the numbers above of image AUROC, its p value, and that p "
    "value as corrected by Holm for the pairs of the same category and number. The test is {tests}. Bold: corrected p "
    "below 0.05. {place} The CSV has every category, and pixel AUROC and AUPRO too."
)


def stability_tables(runs: pd.DataFrame, epochs: pd.DataFrame, labels: Sequence[str]) -> list[Table]:
    """Return a table a metric and one of the pairs of settings; none where no method was trained for long enough."""
    steady = with_stability(runs, epochs)
    tables = []
    compared = []
    for metric, name in METRICS.items():
        measures = _measures(metric)
        of_metric = steady.dropna(subset=measures[0].key) if measures[0].key in steady else steady.iloc[:0]
        if of_metric.empty:
            continue
        numbers = summarise_all(of_metric, measures)
        title = f"Stability of {name}"
        file = f"stability_{metric.removeprefix('test/')}"
        tables.append(tall(file, title, SECTION, CAPTION.format(metric=name), measures, numbers, labels))
        compared += [pairs(of_metric, measure, labels) for measure in measures]
    differences = pd.concat(compared, ignore_index=True) if compared else pd.DataFrame()
    return tables + _pairs_table(differences) if len(differences) else tables


def with_stability(runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with three numbers for each metric that they logged over at least three epochs."""
    found: dict[str, dict[str, float]] = {}
    curves = epochs[epochs["metric"].isin(METRICS)].dropna(subset="value").sort_values("epoch")
    heights, at = curves["value"].to_numpy(), curves["epoch"].to_numpy()
    for (run_id, metric), rows in curves.groupby(["run_id", "metric"]).indices.items():
        if len(rows) >= FEWEST_EPOCHS:
            numbers = stability(heights[rows])
            settled = float(at[rows][int(numbers.settled_epoch)])
            values = (numbers.worst_drop, numbers.std_last, settled)
            found.setdefault(str(run_id), {}).update(
                {measure.key: value for measure, value in zip(_measures(str(metric)), values, strict=True)}
            )
    kept = runs[runs["run_id"].isin(found)].reset_index(drop=True)
    return pd.concat([kept, pd.DataFrame([found[run_id] for run_id in kept["run_id"]])], axis=1)


def pairs(runs: pd.DataFrame, measure: Measure, labels: Sequence[str]) -> pd.DataFrame:
    """Return one row a pair of settings and category (or mean of categories).

    Columns as of a summary, with label `a − b`, mean the difference of means, n the smaller number of units, and
    measure, pvalue, holm (corrected for the pairs of this category and measure).
    """
    rows = []
    for samples in samples_of(runs, measure):
        family = list(_pairs_of(samples, [label for label in labels if label in samples.values]))
        corrected = holm([row["pvalue"] for row in family])
        rows += [row | {"measure": measure.key, "holm": p} for row, p in zip(family, corrected, strict=True)]
    return pd.DataFrame(rows)


def _pairs_of(samples: Samples, labels: Sequence[str]) -> Iterator[dict[str, object]]:
    found = {label: summarize(samples.values[label].to_numpy(dtype=float)) for label in labels}
    for a, b in combinations(labels, 2):
        by_seed = samples.unit == SEED  # then each sample is summarised once, for all of its pairs
        yield {
            "dataset": samples.dataset,
            "category": samples.category,
            "is_mean": samples.is_mean,
            "label": f"{a} − {b}",
            "mean": found[a].mean - found[b].mean,
            "std": math.nan,
            "n": min(found[a].n, found[b].n),
            "best": False,
            "run_ids": samples.run_ids[a] + samples.run_ids[b],
            "unit": samples.unit,
            "pvalue": welch_from_summary(*found[a], *found[b]).pvalue if by_seed else pvalue(samples, a, b),
        }


def _measures(metric: str) -> tuple[Measure, ...]:
    """Return the three numbers of a metric, in the order of :class:`harness.stats.Stability`."""
    key = f"stability/{metric.removeprefix('test/')}"
    return (
        Measure(f"{key}/worst_drop", "Worst drop", POINTS, higher_is_better=False),
        Measure(f"{key}/std_last", "Deviation", POINTS, higher_is_better=False),
        Measure(f"{key}/settled_epoch", "Settled", "epochs", 1.0, higher_is_better=False),
    )


def _pairs_table(numbers: pd.DataFrame) -> list[Table]:
    """Lay out the pairs of image AUROC: of a data set's mean, or of its only category."""
    measures = _measures("test/image_auroc")
    shown = numbers[numbers["measure"].isin([m.key for m in measures])]
    shown = shown[means_or_only(shown)]
    rows = []
    for (dataset, category, label), group in shown.groupby(["dataset", "category", "label"], sort=False):
        found = {number["measure"]: number for number in group.to_dict("records")}
        cells = tuple(_difference(found[m.key]) if m.key in found else None for m in measures)
        rows.append(Row(str(dataset), str(category), cells, bool(group["is_mean"].iloc[0]), (str(label),)))
    tests = " or, in data sets with folds, ".join(
        TESTS[u].partition(" at ")[0] for u in sorted(set(shown["unit"]))[::-1]
    )
    place = "Shown are means over the categories." if shown["is_mean"].any() else ""
    caption = " ".join(PAIRS_CAPTION.format(tests=tests, place=place).split())
    columns = tuple(m.title for m in measures)
    title = "Stability: settings two by two"
    heads = ("Category", "Pair")
    return [Table("stability_pairs", title, caption, columns, tuple(rows), numbers, SECTION, heads)]


def _difference(number: dict[str, float]) -> Cell:
    if math.isnan(number["pvalue"]):
        return Cell(f"{number['mean']:+.2f}", note="(no test)")
    note = f"(p {p_text(number['pvalue'])}, Holm {p_text(number['holm'])})"
    return Cell(f"{number['mean']:+.2f}", note=note, bold=number["holm"] < ALPHA)

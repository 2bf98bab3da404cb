"""The first things to read: sentences in plain words, and one table of every setting by the main measures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from harness.report.captions import FEWEST
from harness.report.measures import Measure
from harness.report.summary import (
    ALPHA,
    FOLD,
    PAIRED_ALPHA,
    SEED,
    Samples,
    means_or_only,
    rows_of,
    samples_of,
    summarise_all,
)
from harness.report.tables import Table, tall

SECTION = "At a glance"
MAIN = ("test/image_auroc", "test/image_ap", "test/f1_max", "test/pixel_auroc", "test/aupro")
COSTS = ("speed/images_per_second", "time/train", "memory/host_peak")
CAPTION = (
    "Every setting by the main measures: percent; speed in images a second, times in seconds, memory in MiB. Means "
    "over the categories, where there are several. F1-max takes its threshold from the test images."
)
FPR, FNR = "threshold/fpr_5/fpr", "threshold/fpr_5/fnr"
LEVELS = {SEED: ALPHA, FOLD: PAIRED_ALPHA}
MOST = 4  # names in a sentence


def overview_table(runs: pd.DataFrame, measures: Sequence[Measure], labels: Sequence[str]) -> list[Table]:
    """Return the table of all settings by accuracy and cost, none where there is one number only."""
    by_key = {measure.key: measure for measure in measures}
    shown = [by_key[key] for key in (*MAIN, *COSTS) if key in by_key]
    if len(shown) < 2:
        return []
    numbers = summarise_all(runs, shown)
    numbers = numbers[means_or_only(numbers)].reset_index(drop=True)
    return [tall("overview", "Every setting at a glance", SECTION, CAPTION, shown, numbers, labels)]


def sentences(runs: pd.DataFrame, measure: Measure) -> Iterator[str]:
    """Yield for every data set which setting is best, what is not separated from it, and which is the lowest.

    Of the mean over the categories, where there are several.
    """
    if measure.key not in runs.columns:
        return
    found: dict[str, Samples] = {}
    for samples in samples_of(runs, measure):  # a mean row comes after its categories
        found[samples.dataset] = samples
    for dataset, samples in found.items():
        numbers = pd.DataFrame(rows_of(samples, measure)).sort_values("mean", ascending=False)
        if len(numbers) > 1:
            yield " ".join(
                [_sentence(dataset, samples, numbers, measure), *_alarms(runs, dataset, numbers["label"].iloc[0])]
            )


def _sentence(dataset: str, samples: Samples, numbers: pd.DataFrame, measure: Measure) -> str:
    """Say which mean is the highest and how that stands to chance; tests after Holm's correction."""
    first, last = numbers.iloc[0], numbers.iloc[-1]
    highest = numbers[numbers["mean"] == first["mean"]]
    have = "have" if len(highest) > 1 else "has"
    best = f"{_names(list(highest['label']))} {have} the highest {measure.title}, {_number(first)}"
    text = f"{_where(dataset, samples)}: {best}"
    if len(highest) == 1:
        text += _chance(first, numbers.iloc[1:], samples.unit)
    return f"{text}." + (f" Lowest: {last['label']}, {_number(last)}." if last["mean"] < first["mean"] else "")


def _chance(first: pd.Series, others: pd.DataFrame, unit: str) -> str:
    """Return how the highest mean stands to chance."""
    if others["holm"].isna().all():
        return f", but no test over {unit}s was possible: it may be chance"
    if math.isfinite(first["holm"]) or first["n"] < FEWEST[unit]:  # the best of those tested is another
        return f", but with too few {unit}s for a test; it may be chance"
    if len(open_ := others[others["holm"] >= LEVELS[unit]]):
        return f"; a difference from {_names(list(open_['label']))} is not shown by {first['n']} {unit}s"
    return f"; on these test images every other that could be tested is lower ({first['n']} {unit}s)"


def _where(dataset: str, samples: Samples) -> str:
    if not samples.is_mean:
        return f"{dataset} / {samples.category}"
    return f"{dataset}, mean of {_names(samples.categories)}"


def _alarms(runs: pd.DataFrame, dataset: str, label: str) -> Iterator[str]:
    """Yield what a setting does on the line, at the threshold for an FPR of 5 % on held-out good images."""
    if not {FPR, FNR} <= set(runs.columns):
        return
    own = runs[(runs["dataset"] == dataset) & (runs["label"] == label)].dropna(subset=[FPR, FNR])
    if len(own):
        by_category = 100 * own.groupby("category")[[FPR, FNR]].mean().mean()
        yield (
            f"With the threshold that alarms on at most 5 % of held-out good images, {label} misses "
            f"{by_category[FNR]:.0f} % of the defective test images and alarms on {by_category[FPR]:.0f} % of the good "
            f"ones."
        )


def _number(row: pd.Series) -> str:
    deviation = f" ± {row['std']:.1f}" if row["n"] > 1 else ""
    return f"{row['mean']:.1f}{deviation} %"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more

"""What thresholds do: error rates and counts of each rule that chose one (`threshold/<rule>/<what>`)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.report.measures import COUNT, Measure
from harness.report.summary import summarise_all
from harness.report.tables import Table, tall
from harness.report.variants import by_value

SECTION = "Thresholds"
PREFIX = "threshold/"
RATES = {"fpr": "FPR", "fnr": "FNR", "precision": "Precision", "recall": "Recall", "f1": "F1"}
COUNTS = ("tp", "fp", "fn", "tn")
RULES = {  # heading and explanation; those of fpr_… are made from their number
    "f1_validation": (
        "Threshold of the highest F1 on the validation images",
        "The threshold has the highest F1 on the validation images. Where these have another share of defective ones "
        "than the test (split.csv tells), it lies lower or higher than the test's own would.",
    ),
    "f1_test": (
        "Threshold of the highest F1 on the test images (oracle)",
        "The threshold is chosen on the test images themselves, where it has the highest F1: an oracle, and no result.",
    ),
}
CAPTION = (
    "Rates in percent, counts in images of the test, at the last epoch; an image is called anomalous from the "
    "threshold on. FPR: share of the good images that are called anomalous; FNR: share of the anomalous ones that are "
    "missed; –: undefined, as is the precision without any alarm."
)


def decision_tables(runs: pd.DataFrame, labels: Sequence[str]) -> list[Table]:
    """Return a table a rule that the runs logged: those of a target FPR first, the one chosen on the test last."""
    keys = [str(key).split("/") for key in runs.columns if str(key).startswith(PREFIX) and runs[key].notna().any()]
    rules = {rule for _, rule, _ in keys}
    order = [rule for rule in sorted(rules, key=by_value) if rule not in RULES]
    order += [rule for rule in RULES if rule in rules]
    return [_table(runs, rule, labels) for rule in order]


def _table(runs: pd.DataFrame, rule: str, labels: Sequence[str]) -> Table:
    columns = [Measure(f"{PREFIX}{rule}/{what}", title, tested=False) for what, title in RATES.items()]
    columns += [Measure(f"{PREFIX}{rule}/{what}", what.upper(), COUNT, 1.0, tested=False) for what in COUNTS]
    value = Measure(f"{PREFIX}{rule}/value", "Threshold", "score", 1.0, tested=False)  # in the CSV only
    present = [m for m in (*columns, value) if m.key in runs.columns]
    numbers = summarise_all(runs, present)
    counted = numbers["measure"].isin([m.key for m in present if m.scale == 1.0])
    numbers = numbers[~(counted & numbers["is_mean"])].reset_index(drop=True)  # categories differ in their sizes
    title, text = RULES.get(rule) or _of_rate(rule.removeprefix("fpr_"))
    shown = [m for m in present if m is not value]
    return tall(f"threshold_{rule}", title, SECTION, f"{text} {CAPTION}", shown, numbers, labels)


def _of_rate(percent: str) -> tuple[str, str]:
    return (
        f"Threshold at an FPR of {percent} %",
        f"The threshold is the lowest that calls at most {percent} % of held-out normal images anomalous, none of them "
        "a test image; of fewer than "
        f"{100 / float(percent):.0f} such images it calls none.",
    )

"""What stands under a table: how many seeds or folds, which test, and what its signs mean."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from harness.report.summary import ALPHA, FOLD, PAIRED_ALPHA, SEED
from harness.stats import pairs_needed, smallest_pvalue

TESTS = {
    SEED: f"Welch's two-sided t-test (unit: the seed) at the {100 * ALPHA:g} % level",
    FOLD: (
        f"Wilcoxon's two-sided signed-rank test, paired by fold (unit: the fold of a seed), at the "
        f"{100 * PAIRED_ALPHA:g} % level"
    ),
}
FEWEST = {SEED: 2, FOLD: pairs_needed(PAIRED_ALPHA)}  # units that a test takes
TOO_FEW = {
    SEED: "Too few methods have two or more seeds: no test, nothing in bold.",
    FOLD: (
        f"Too few methods have the {FEWEST[FOLD]} folds that the test takes (the smallest p of {{n}} folds is "
        f"{{least:.3g}}): "
        "no test, nothing in bold."
    ),
}
BOLD = {
    SEED: (
        "Bold: the best mean of {of} and every mean that {test} does not separate from it "
        "(no correction for the number of comparisons). Bold does not mean equal: what varies much is hard to separate."
    ),
    FOLD: (
        "Bold{where}: the best mean of {of}, if {test} separates it from the second best (no correction). Folds share "
        "training images: the test is anticonservative; the corrected resampled t-test is under Differences."
    ),
}
HOLM = {
    SEED: "°: not separated from the best either once p is corrected by Holm for the tests of {of}.",
    FOLD: "°: not separated any more once p is corrected by Holm for the tests of {of}.",
}


def usual_n(numbers: pd.DataFrame) -> dict[str, int]:
    """Return by unit the number of seeds or folds that most cells of several have, the larger one of a tie; else 1."""
    return {str(unit): _most(of_unit.loc[of_unit["n"] > 1, "n"]) for unit, of_unit in numbers.groupby("unit")}


def _most(several: pd.Series) -> int:
    return 1 if several.empty else int(several.mode().max())


def spread(usual: dict[str, int]) -> str:
    """Return what a printed number is: `mean ± … over 8 seeds`."""
    parts = [f"one {unit}" if n == 1 else f"{n} {unit}s" for unit, n in _in_order(usual)]
    counts = " or, in data sets with folds, ".join(parts)
    return counts if set(usual.values()) <= {1} else f"mean ± sample standard deviation (ddof 1) over {counts}"


def rule(numbers: pd.DataFrame, of: str = "a row") -> str:
    """Return what is bold: by which test, and of which unit; and what a correction would change."""
    fewest = numbers["unit"].map(FEWEST)
    able = numbers.assign(ok=numbers["n"] >= fewest).groupby(["unit", "dataset", "category"])["ok"].sum() > 1
    testable = {unit for unit, *_ in able[able].index}
    units = [unit for unit, _ in _in_order({str(unit): 0 for unit in numbers["unit"]})]
    parts = []
    for unit in units or [SEED]:
        if unit not in testable:
            parts.append(TOO_FEW[unit].format(n=(n := _largest(numbers, unit)), least=smallest_pvalue(n)))
            continue
        where = " in data sets with folds" if len(units) > 1 else ""
        parts.append(BOLD[unit].format(of=of, test=TESTS[unit], where=where))
        of_unit = numbers[numbers["unit"] == unit]
        if (of_unit["best"] != of_unit["best_after_holm"]).any():
            parts.append(HOLM[unit].format(of=of.rstrip(",")))
    return " ".join(parts)


def _largest(numbers: pd.DataFrame, unit: str) -> int:
    n = numbers.loc[numbers["unit"] == unit, "n"]
    return max(1, int(n.max())) if len(n) else 1


def signs(numbers: pd.DataFrame, usual: dict[str, int]) -> Iterator[str]:
    """Yield what the signs in the cells mean, as far as there are any."""
    own = numbers["unit"].map(usual)
    unit = " or ".join(name for name, _ in _in_order(usual))
    if ((own > 1) & (numbers["n"] == 1)).any():
        yield f"†: one {unit}, hence no deviation, no test and never bold."
    if ((numbers["n"] != own) & (numbers["n"] > 1)).any():
        yield f"(n=…): {unit}s of a cell that has not {' or '.join(str(n) for _, n in _in_order(usual))}."
    if (numbers["n"] == 0).any():
        yield f"‡: no {unit} has all categories; the mean of their means, without deviation or test."
    if numbers["is_mean"].any():
        yield (
            f"Mean rows average the categories within each {unit} that has them all; their ± is over these {unit} "
            "means."
        )


def _in_order(usual: dict[str, int]) -> list[tuple[str, int]]:
    return [(unit, usual[unit]) for unit in (SEED, FOLD) if unit in usual]

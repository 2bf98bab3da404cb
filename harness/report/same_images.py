"""Settings compared on the same test images: DeLong's test of each seed, and a bootstrap over seeds and images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.report.artifacts import Artifacts
from harness.report.pairs import SECTION
from harness.report.summary import ALPHA
from harness.report.tables import Cell, Row, Table, interval_cell, p_cell, p_text, signed
from harness.stats import delong, hierarchical_bootstrap, holm

RESAMPLES = 2000
MOST_PAIRS = 120  # of all categories; of more, each category's best setting is compared with its second best only
FEWEST_SEEDS = 5  # of each setting; with fewer the bootstrap finds what is not there (at 2 seeds one time in five)
CAPTION = (
    "Image AUROC on the same test images: difference of the seeds' means in percentage points. {bootstrap}DeLong: "
    "seeds in which DeLong's paired test (unit: the image, so about the trained models) separates the two at 5 %, "
    "uncorrected, of those that both have, and its smallest and largest p. Settings whose test images differ are never "
    "compared."
)
BOOTSTRAP = (
    "95 % interval and p of a bootstrap over seeds and images ({resamples} resamples: of each setting's seeds, and "
    "crossed with them of the images of each class, the same for both settings), p raw and as corrected by Holm for "
    "the pairs of a category. It counts the choice of the test images as chance too, which tests over seeds do not. "
    "With few seeds the intervals are too narrow: below {fewest} seeds there is no p; with one only images are "
    "resampled. Bold: corrected p below 0.05. "
)
BEST_TWO = " Of many settings, each category's best is compared with its second best."
BY_SEED = " No bootstrap (–): the test images differ between seeds."


class Scored(NamedTuple):
    """One label's scores in one category: unit -> image -> score, and label of each image by unit."""

    scores: dict[str, pd.Series]
    truth: dict[str, pd.Series]
    run_ids: dict[str, str]  # unit -> run

    @property
    def mean_auroc(self) -> float:
        """Mean AUROC over the units."""
        from harness.metrics import image_auroc

        return float(np.mean([image_auroc(self.truth[u].to_numpy(), s.to_numpy()) for u, s in self.scores.items()]))


def same_image_tables(runs: pd.DataFrame, artifacts: Artifacts) -> list[Table]:
    """Return the table of pairs on the same images; none where no two settings can be compared.

    Args:
        runs: of which accuracies count (:func:`harness.report.artifacts.scored_runs`).
        artifacts: of these runs.
    """
    artifacts.preload(runs["run_id"])
    cells = {place: _scored(group, artifacts) for place, group in runs.groupby(["dataset", "category"], sort=True)}
    pairs = [(place, a, b) for place, scored in cells.items() for a, b in _pairs(scored, None)]
    few = len(pairs) > MOST_PAIRS
    if few:
        pairs = [(place, a, b) for place, scored in cells.items() for a, b in _pairs(scored, 2)]
    rows = [_compared(place, a, b, cells[place], artifacts) for place, a, b in pairs]
    rows = [row for row in rows if row is not None]
    return [_table(pd.DataFrame(rows), few)] if rows else []


def _scored(runs: pd.DataFrame, artifacts: Artifacts) -> dict[str, Scored]:
    """Return the scores of every label of a category that has them in all of its runs."""
    found = {}
    for label, of_label in runs.groupby("label", sort=True):
        frames = {run.unit: artifacts.scores(run.run_id) for run in of_label.itertuples()}
        kept = {unit: frame.set_index("image").sort_index() for unit, frame in frames.items() if frame is not None}
        kept = {unit: frame for unit, frame in kept.items() if frame["label"].nunique() == 2 and frame.index.is_unique}
        if len(kept) == len(of_label):
            scores = {unit: frame["score"] for unit, frame in kept.items()}
            truth = {unit: frame["label"] for unit, frame in kept.items()}
            found[str(label)] = Scored(scores, truth, dict(zip(of_label["unit"], of_label["run_id"], strict=True)))
    return found


def _pairs(scored: dict[str, Scored], most: int | None) -> list[tuple[str, str]]:
    """Return pairs of labels, the better first; of `most` best labels only."""
    order = sorted(scored, key=lambda label: (-scored[label].mean_auroc, label))
    return list(combinations(order[:most], 2))


def _compared(place: Any, a: str, b: str, scored: dict[str, Scored], artifacts: Artifacts) -> dict[str, Any] | None:
    """Return the tidy row of two labels, None where they share no images."""
    one, other = scored[a], scored[b]
    shared = [unit for unit in one.scores if unit in other.scores and _same(one, unit, other, unit, artifacts)]
    tests = [delong(one.truth[u].to_numpy(), one.scores[u].to_numpy(), other.scores[u].to_numpy()) for u in shared]
    units = [(scored_of, unit) for scored_of in (one, other) for unit in scored_of.scores]
    constant = all(_same(one, units[0][1], of, unit, artifacts) for of, unit in units)
    if not shared and not constant:
        return None
    row = {
        "dataset": place[0],
        "category": place[1],
        "is_mean": False,
        "label": f"{a} − {b}",
        "measure": "test/image_auroc",
        "mean": 100.0 * (one.mean_auroc - other.mean_auroc),
        "std": math.nan,
        "n": len(shared),
        "best": False,
        "run_ids": (*one.run_ids.values(), *other.run_ids.values()),
        "unit": "image",
        "delong_separated": sum(test.pvalue < ALPHA for test in tests),
        "delong_lowest": min((test.pvalue for test in tests), default=math.nan),
        "delong_highest": max((test.pvalue for test in tests), default=math.nan),
        "low": math.nan,
        "high": math.nan,
        "pvalue": math.nan,
    }
    if constant:
        truth = one.truth[units[0][1]].to_numpy()
        of_one, of_other = (np.stack([series.to_numpy() for series in of.scores.values()]) for of in (one, other))
        result = hierarchical_bootstrap(truth, of_one, of_other, RESAMPLES)
        row |= {"low": 100.0 * result.low, "high": 100.0 * result.high}
        row |= {"pvalue": result.pvalue} if min(len(one.scores), len(other.scores)) >= FEWEST_SEEDS else {}
    return row


def _same(one: Scored, unit: str, other: Scored, of_other: str, artifacts: Artifacts) -> bool:
    """Whether two runs were tested on the same images, by name, label and, where known, content."""
    images = [artifacts.images(run_id) for run_id in (one.run_ids[unit], other.run_ids[of_other])]
    return images[0] is not None and images[1] is not None and images[0].same(images[1])


def _table(numbers: pd.DataFrame, few: bool) -> Table:
    numbers = numbers.assign(holm=numbers.groupby(["dataset", "category"])["pvalue"].transform(holm))
    records = numbers.to_dict("records")
    rows = [Row(r["dataset"], r["category"], tuple(_cells(r)), False, (r["label"],)) for r in records]
    resampled = numbers["low"].notna()
    told = BOOTSTRAP.format(resamples=RESAMPLES, fewest=FEWEST_SEEDS) if resampled.any() else ""
    text = CAPTION.format(bootstrap=told)
    text += (BEST_TWO if few else "") + ("" if resampled.all() else BY_SEED)
    columns = ("Difference", "95 % interval", "p", "p (Holm)", "DeLong", "p of DeLong")
    title = "Image AUROC on the same test images"
    return Table("same_images", title, text, columns, tuple(rows), numbers, SECTION, ("Category", "Pair"), "pair")


def _cells(row: dict[str, Any]) -> Iterator[Cell | None]:
    yield Cell(signed(row["mean"], 2), bold=row["holm"] < ALPHA)
    yield interval_cell(row["low"], row["high"], 2)
    yield from (p_cell(row["pvalue"]), p_cell(row["holm"]))
    if row["n"]:
        yield Cell(f"{row['delong_separated']} of {row['n']}")
        both = (row["delong_lowest"], row["delong_highest"])
        yield Cell(" to ".join(dict.fromkeys("–" if math.isnan(p) else p_text(p) for p in both)))
    else:
        yield from (None, None)

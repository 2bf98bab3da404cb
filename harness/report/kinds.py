"""Image AUROC of every kind of defect against the good images: which defects a setting finds, and which it misses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from harness.metrics import image_auroc
from harness.report.artifacts import Artifacts
from harness.report.captions import rule, signs, spread, usual_n
from harness.report.measures import Measure
from harness.report.summary import summarise
from harness.report.tables import Row, Table, cell_of, digits_of

SECTION = "Kinds of defects"
AUROC = Measure("kind/image_auroc", "Image AUROC by kind of defect")
CAPTION = (
    "Image AUROC of the images with one kind of defect against all good test images of the category, in percent, at "
    "the last epoch: {spread}. n: images of the kind in the test of the first run. A kind of few images has a wide "
    "uncertainty that the ± over seeds does not show."
)


def kind_tables(runs: pd.DataFrame, artifacts: Artifacts, labels: Sequence[str]) -> list[Table]:
    """Return the table of kinds of defects; none where no category has two or more.

    Args:
        runs: of which accuracies count (:func:`harness.report.artifacts.scored_runs`).
        artifacts: of these runs.
        labels: the columns, in order.
    """
    artifacts.preload(runs["run_id"])
    by_kind = pd.DataFrame([row for run in runs.to_dict("records") for row in _of_run(run, artifacts)])
    if by_kind.empty:
        return []
    several = by_kind.groupby(["dataset", "category"])["kind"].transform("nunique") > 1
    return [_table(by_kind[several], labels)] if several.any() else []


def _of_run(run: dict[str, Any], artifacts: Artifacts) -> Iterator[dict[str, Any]]:
    scores = artifacts.scores(run["run_id"])
    if scores is None or not (scores["label"] == 0).any():
        return
    values, defects = scores["score"].to_numpy(), scores["defect"].to_numpy(dtype=object)
    truth = scores["label"].to_numpy()
    kept = {name: run[name] for name in ("run_id", "label", "dataset", "category", "seed", "fold", "unit")}
    for kind in sorted(set(defects[truth == 1])):
        chosen = (truth == 0) | (defects == kind)
        auroc = image_auroc(truth[chosen], values[chosen])
        yield kept | {"kind": str(kind), "images": int((defects == kind).sum()), AUROC.key: auroc}


def _table(by_kind: pd.DataFrame, labels: Sequence[str]) -> Table:
    parts = []
    for (category, kind), group in by_kind.groupby(["category", "kind"], sort=True):
        numbers = summarise(group, AUROC)
        parts.append(numbers.assign(category=category, kind=kind, images=group["images"].iloc[0]))
    numbers = pd.concat(parts, ignore_index=True)
    columns = [label for label in labels if label in set(numbers["label"])]
    usual, digits = usual_n(numbers), digits_of(numbers, AUROC)
    rows = []
    for (dataset, category, kind), group in numbers.groupby(["dataset", "category", "kind"], sort=True):
        found = {number["label"]: number for number in group.to_dict("records")}
        cells = tuple(cell_of(found[c], digits, usual) if c in found else None for c in columns)
        rows.append(Row(str(dataset), str(category), cells, more=(f"{kind} (n = {group['images'].iloc[0]})",)))
    caption = " ".join([CAPTION.format(spread=spread(usual)), rule(numbers), *signs(numbers, usual)])
    heads = ("Category", "Defect")
    return Table("kinds_image_auroc", AUROC.title, caption, tuple(columns), tuple(rows), numbers, SECTION, heads)

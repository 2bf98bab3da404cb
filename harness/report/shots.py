"""Image AUROC over the number of training images (paper 002, Fig. 5): a panel a method, a line a category."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from harness.report.figures import (
    WIDTH,
    Figure,
    bands,
    draw_panel,
    finish,
    lines_of,
    looks,
    pyplot,
    slug_of,
    styles,
    wrapped,
)
from harness.report.variants import label_order

SECTION = "Number of training images"
ALL = "all"
METRIC = "test/image_auroc"
PANELS = 4  # a row
CAPTION = (
    "Image AUROC at the last epoch over the number of training images, on a logarithmic axis (all, at its end: "
    "as many as the data set has); a line is the mean over seeds, its band reaches from the lowest to the "
    "highest seed (no band with one seed)."
)


def shot_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what the figures draw: dataset, label, metric, category, shots, mean, low, high, n, run_ids.

    Lines are those of runs that differ in nothing but their shots; data sets with one number of shots have none.
    """
    few = runs[runs["shots"] != ""]
    few = few[few.groupby("dataset")["shots"].transform("nunique") > 1] if len(few) else few
    values = few[METRIC] * 100.0 if METRIC in few.columns else float("nan")
    points = few.assign(value=values, label=few["label_of_shots"], metric=METRIC).dropna(subset="value")
    return bands(points, "shots")


def draw_shots(curves: pd.DataFrame, folder: Path) -> Iterator[Figure]:
    """Draw each data set's figure into a folder, as PDF and PNG."""
    for dataset, of_dataset in curves.groupby("dataset"):
        name = f"shots_{slug_of(str(dataset))}"
        _draw(of_dataset, folder / name)
        yield Figure(name, str(dataset), lines_of(of_dataset), SECTION, CAPTION)


def _draw(curves: pd.DataFrame, path: Path) -> None:
    places = _places(curves["shots"])
    curves = curves.assign(place=curves["shots"].map(places)).sort_values("place")
    labels, style = label_order(curves["label"].unique()), styles(sorted(curves["category"].unique()))
    columns = min(PANELS, len(labels))
    rows = -(-len(labels) // columns)
    with looks():
        size = (WIDTH * max(columns, 2) / PANELS, 2.0 * rows + 0.6)
        grid = {"sharey": True, "squeeze": False, "layout": "constrained"}
        figure, axes = pyplot().subplots(rows, columns, figsize=size, **grid)
        for axis, label in zip(axes.flat, labels, strict=False):
            draw_panel(axis, curves[curves["label"] == label], "place", style)
            axis.set_title(wrapped(label, 30))
            axis.set_xscale("log")
            axis.set_xticks(list(places.values()), labels=list(places), minor=False)
            axis.set_xticks([], minor=True)
            axis.set_xlabel("Training images")
        for axis in list(axes.flat)[len(labels) :]:
            axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set_ylabel("Image AUROC (%)")
        finish(figure, style, path)


def _places(shots: pd.Series) -> dict[str, float]:
    """Return where each number of shots stands on the axis; `all` stands after the others."""
    numbers = {name: float(name) for name in sorted(set(shots) - {ALL}, key=float)}
    return numbers | ({ALL: 2.0 * max(numbers.values())} if ALL in set(shots) else {})

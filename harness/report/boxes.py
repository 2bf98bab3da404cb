"""How much the choice of settings moves a method: its spread over all its variants (paper 004, Fig. 5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.report.ablation import SECTION
from harness.report.figures import NARROW, WIDTH, Figure, looks, pyplot, save, slug_of, styles, wrapped
from harness.report.measures import ACCURACIES, PRECISIONS
from harness.report.study import Study
from harness.report.summary import samples_of

BOXES = {"test/image_auroc": "Image AUROC", "test/f1_max": "F1-max"} | {
    f"test/recall_at_precision_{p}": f"Recall at precision {p} %" for p in PRECISIONS
}
MEASURES = {measure.key: measure for measure in ACCURACIES}
VARIANTS = 3  # of a method that has a box
COLUMNS = ["dataset", "method", "metric", "label", "unit", "value", "run_ids"]


def draw_boxes(study: Study, folder: Path) -> Iterator[Figure]:
    """Draw the spread of each method over its variants, a figure a data set (paper 004, Fig. 5)."""
    for dataset, values in box_values(study).groupby("dataset"):
        name = f"variants_{slug_of(str(dataset))}"
        _draw_boxes(values, folder / name)
        lines: dict[str, Any] = {}
        for row in values.itertuples():
            lines.setdefault(row.method, {}).setdefault(row.metric, {})[row.label] = list(row.run_ids)
        count = ", ".join(f"{method} {n}" for method, n in values.groupby("method")["label"].nunique().items())
        caption = (
            f"Spread over all variants of a method and their seeds (variants: {count}); a point is a variant and seed, "
            "the mean over categories. Boxes reach from the lower to the upper quartile, with the median; whiskers to "
            "the last point within 1.5 times their height. Variants that lack a category are left out."
        )
        yield Figure(name, f"{dataset}: variants", lines, SECTION, caption)


def box_values(study: Study) -> pd.DataFrame:
    """Return what the box plots draw: a row a variant and seed, the mean over categories, in percent.

    Columns: dataset, method, metric, label, unit, value, run_ids. Methods have them of which three or more variants
    were run on all categories; how many images they were trained on makes no variant here.
    """
    rows = []
    metrics = [metric for metric in BOXES if metric in study.runs.columns]
    valued = study.runs.dropna(subset=metrics, how="all") if metrics else study.runs.iloc[:0]
    for dataset, runs in valued.groupby("dataset"):
        varied = runs[runs.groupby("method")["label_of_shots"].transform("nunique") >= VARIANTS]
        methods = varied.drop_duplicates("label").set_index("label")["method"]
        for metric in metrics:
            for samples in [*samples_of(varied, MEASURES[metric])][-1:]:
                units = [(label, unit, value) for label, of in samples.values.items() for unit, value in of.items()]
                units += [(label, "", mean) for label, mean in samples.means.items()]
                rows += [(dataset, methods[la], metric, la, u, v, samples.run_ids[la]) for la, u, v in units]
    values = pd.DataFrame(rows, columns=COLUMNS)
    left = values.groupby(["dataset", "method", "metric"])["label"].transform("nunique")
    return values[left >= VARIANTS].reset_index(drop=True)


def _draw_boxes(values: pd.DataFrame, path: Path) -> None:
    metrics = [metric for metric in BOXES if metric in set(values["metric"])]
    methods = sorted(values["method"].unique())
    style = styles(methods)
    columns = min(len(metrics), 5 if len(methods) <= 4 else 3)
    rows = -(-len(metrics) // columns)
    with looks():
        size = (WIDTH if columns > 2 else NARROW, 2.5 * rows)
        figure, axes = pyplot().subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        for axis, metric in zip(axes.flat, metrics, strict=False):
            for place, method in enumerate(methods):
                own = values.loc[(values["metric"] == metric) & (values["method"] == method), "value"]
                _draw_box(axis, place, own.to_numpy(dtype=float), style[method]["color"])
            axis.set_title(wrapped(BOXES[metric], 16))
            axis.set_xticks(range(len(methods)), labels=[wrapped(method, 24) for method in methods], rotation=90)
            axis.set_xlim(-0.6, len(methods) - 0.4)
            axis.tick_params(length=2, pad=2)
            axis.grid(axis="x", visible=False)
            axis.grid(axis="y", linewidth=0.4)
        for axis in axes[:, 0]:
            axis.set_ylabel("Percent")
        for axis in list(axes.flat)[len(metrics) :]:
            axis.set_axis_off()
        save(figure, path)


def _draw_box(axis: Any, place: int, values: np.ndarray, colour: Any) -> None:
    """Draw a box and its points, which are moved aside by a fixed sequence so that equal ones show."""
    if not len(values):
        return
    thin = {"color": "0.3", "linewidth": 0.8}
    parts = {"whiskerprops": thin, "capprops": thin, "medianprops": thin | {"linewidth": 1.2}}
    box = {"facecolor": (*colour, 0.3), "edgecolor": "0.3", "linewidth": 0.8}
    axis.boxplot(values, positions=[place], widths=0.6, showfliers=False, patch_artist=True, boxprops=box, **parts)
    aside = 0.4 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
    axis.plot(place + aside, values, linestyle="none", marker="o", markersize=2, color=colour, zorder=3)

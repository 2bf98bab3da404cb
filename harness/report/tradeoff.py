"""Accuracy against speed: a point a method, and the front of those that no other beats in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.report.figures import NARROW, WIDTH, Figure, legend, looks, pyplot, save, slug_of, styles, wrapped
from harness.report.measures import ACCURACIES, Measure
from harness.report.summary import Samples, samples_of
from harness.report.variants import label_order
from harness.stats.arrays import mean_and_std

SECTION = "Accuracy and speed"
ACCURACY = next(m for m in ACCURACIES if m.key == "test/image_auroc")
SPEEDS = (  # of those that as many labels have, the first is drawn
    Measure("speed/images_per_second", "Inference speed", "images/s", 1.0, tested=False),
    Measure("timing/images_per_second", "Inference speed in batches, measured apart", "images/s", 1.0, tested=False),
    Measure("timing/latency_median", "Median inference time of an image", "ms", 1000.0, False, higher_is_better=False),
)
WRITTEN = 12  # labels that are written beside their points; more have a legend
MARKERS = "osD^vP"  # after each round of the palette's ten colours
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # where a label may stand
DISTANCES = (5.0, 11.0, 18.0, 27.0)  # points, from a point to its label
COLUMNS = ["dataset", "label", "key", "speed", "speed_std", "accuracy", "accuracy_std", "n", "run_ids", "front"]

Floats = NDArray[np.float64]


class Box(NamedTuple):
    """A rectangle of a figure, in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Return the area that two rectangles share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def within(self, other: Box) -> bool:
        """Whether this rectangle lies inside another."""
        low = self.left >= other.left and self.bottom >= other.bottom
        return low and self.right <= other.right and self.top <= other.top

    def distance(self, point: Floats) -> float:
        """Return how far a point is from the rectangle, 0 inside it."""
        x = max(self.left - point[0], point[0] - self.right, 0.0)
        y = max(self.bottom - point[1], point[1] - self.top, 0.0)
        return float(np.hypot(x, y))


def accuracy_and_speed(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what the figures draw, a row a label that has both numbers in all categories of its data set.

    Columns: dataset, label, key (of the speed), speed and accuracy (means over seeds of the mean over categories, as
    tables have them), speed_std and accuracy_std (ddof 1; nan for one seed), n seeds, run_ids of either, front (whether
    no other label is better in one and at least as good in the other).
    """
    rows = []
    for dataset, of_dataset in runs.groupby("dataset", sort=True):
        accuracy = _means(of_dataset, ACCURACY)
        speeds = {m.key: _means(of_dataset, m) for m in SPEEDS}
        key = max(speeds, key=lambda key: len(speeds[key].keys() & accuracy.keys()))
        shown = label_order(speeds[key].keys() & accuracy.keys())
        front = pareto([speeds[key][one][0] for one in shown], [accuracy[one][0] for one in shown], _more(key))
        for label, on_front in zip(shown, front, strict=True):
            ids = tuple(dict.fromkeys((*accuracy[label][3], *speeds[key][label][3])))
            numbers = (*speeds[key][label][:2], *accuracy[label][:3])
            rows.append((dataset, label, key, *numbers, ids, on_front))
    return pd.DataFrame(rows, columns=COLUMNS)


def _means(runs: pd.DataFrame, measure: Measure) -> dict[str, tuple[float, float, int, tuple[str, ...]]]:
    """Return mean, deviation, n and runs of each label, over all categories of one data set."""
    if measure.key not in runs.columns:
        return {}
    samples = [*samples_of(runs, measure)][-1:]  # the last is the mean over categories, where there are several
    return {label: numbers for one in samples for label, numbers in _numbers(one)}


def _numbers(samples: Samples) -> Iterator[tuple[str, tuple[float, float, int, tuple[str, ...]]]]:
    for label, mean in samples.means.items():  # of categories that have no seed in common
        yield label, (mean, float("nan"), 0, samples.run_ids[label])
    for label, values in samples.values.items():
        yield label, (*mean_and_std(values.to_numpy(dtype=float)), len(values), samples.run_ids[label])


def _more(key: str) -> bool:
    """Whether more of a speed is better."""
    return next(m.higher_is_better for m in SPEEDS if m.key == key)


def pareto(speeds: Sequence[float], accuracies: Sequence[float], more_is_better: bool = True) -> list[bool]:
    """Return for each point whether no other is better in one number and at least as good in the other."""
    signed = [(s if more_is_better else -s, a) for s, a in zip(speeds, accuracies, strict=True)]
    return [not any(s >= x and a >= y and (s, a) != (x, y) for s, a in signed) for x, y in signed]


def draw_tradeoff(runs: pd.DataFrame, folder: Path) -> Iterator[Figure]:
    """Draw a figure for each data set on which two or more labels have an accuracy and a speed."""
    for dataset, points in accuracy_and_speed(runs).groupby("dataset"):
        if len(points) < 2:
            continue
        name = f"tradeoff_{slug_of(str(dataset))}"
        lines = {row.label: list(row.run_ids) for row in points.itertuples()}
        _draw(points.reset_index(drop=True), folder / name)
        yield Figure(name, str(dataset), lines, SECTION, _caption(points, runs))


def _caption(points: pd.DataFrame, runs: pd.DataFrame) -> str:
    measure = next(m for m in SPEEDS if m.key == points["key"].iloc[0])
    ids = {run_id for of_label in points["run_ids"] for run_id in of_label}
    machines = sorted(set(runs.loc[runs["run_id"].isin(ids), "device"]) - {""})
    better = "right" if measure.higher_is_better else "left"
    bars = " Bars are sample standard deviations over seeds (or folds)." if (points["n"] > 1).any() else ""
    return (
        f"Image AUROC at the last epoch against {measure.title[0].lower()}{measure.title[1:]} in {measure.unit}, on a "
        f"logarithmic axis: means over categories, as in the tables.{bars} The line is the front: towards the upper "
        f"{better} of it there is no method. Methods without both numbers in every category are left out. Times depend "
        f"on the machine, here {'; '.join(machines) or 'unknown'}."
    )


def _draw(points: pd.DataFrame, path: Path) -> None:
    measure = next(m for m in SPEEDS if m.key == points["key"].iloc[0])
    small = len(points) <= 4
    with looks():
        size = (NARROW, 2.8) if small else (WIDTH, 3.6)
        figure, axis = pyplot().subplots(figsize=size, layout="constrained")
        axis.set_xscale("log")
        handles = [_draw_point(axis, row, look) for row, look in _with_looks(points)]
        axis.margins(0.18)
        axis.set_xlabel(f"{measure.title} ({measure.unit}){' →' if measure.higher_is_better else ' (less is better)'}")
        axis.set_ylabel("Image AUROC (%) →")
        _set_ticks(axis)
        front = _draw_front(axis, points[points["front"]], measure.higher_is_better)
        if len(points) > WRITTEN or not _write_labels(figure, axis, points, front, 18 if small else 34):
            figure.set_figheight(size[1] + 0.06 * len(points))
            legend(figure, handles)
        save(figure, path)


def _set_ticks(axis: Any) -> None:
    """Write speeds as plain numbers, and no accuracy above 100 %."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    low, high = axis.get_xlim()
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(LogLocator(subs=()))
    limits = axis.get_ylim()
    axis.set_yticks([tick for tick in axis.get_yticks() if round(tick, 6) <= 100])
    axis.set_ylim(limits)
    axis.tick_params(length=2, pad=2)
    axis.grid(linewidth=0.4)


def _with_looks(points: pd.DataFrame) -> Iterator[tuple[Any, dict[str, Any]]]:
    style = styles(list(points["label"]))
    for i, row in enumerate(points.itertuples()):
        yield row, {"color": style[row.label]["color"], "marker": MARKERS[i // 10 % len(MARKERS)]}


def _draw_point(axis: Any, row: Any, look: dict[str, Any]) -> Any:
    """Draw a label's point and bars, and return its handle for a legend."""
    bars = {"elinewidth": 0.8, "capsize": 2, "capthick": 0.8, "linestyle": "none", "markersize": 5, "zorder": 3}
    low = min(row.speed_std, 0.9 * row.speed)  # a logarithmic axis has no room for less than nothing
    x = [[low], [row.speed_std]] if row.speed_std > 0 else None
    y = row.accuracy_std if row.accuracy_std > 0 else None
    axis.errorbar([row.speed], [row.accuracy], xerr=x, yerr=y, **look, **bars)
    return pyplot().Line2D([], [], label=wrapped(row.label, 40), linestyle="none", markersize=5, **look)


def _draw_front(axis: Any, front: pd.DataFrame, more_is_better: bool) -> Floats:
    """Draw the best accuracy that is to be had at each speed, to the borders of the axes; return its corners."""
    xlim, ylim = axis.get_xlim(), axis.get_ylim()
    front = front.sort_values(["speed", "accuracy"], ascending=[not more_is_better, True])
    corners = [(front["speed"].iloc[0], ylim[0])]  # from the fastest to the most accurate
    for x, y in zip(front["speed"], front["accuracy"], strict=True):
        corners += [(x, corners[-1][1]), (x, y)]
    corners.append((xlim[0] if more_is_better else xlim[1], corners[-1][1]))
    axis.plot(*zip(*corners, strict=True), color="0.4", linewidth=0.7, zorder=1)
    axis.set(xlim=xlim, ylim=ylim)
    return np.array(corners, dtype=float)


def _write_labels(figure: Any, axis: Any, points: pd.DataFrame, front: Floats, width: int) -> bool:
    """Write each label beside its point; return False, and write none, where they would overlap."""
    figure.draw_without_rendering()  # the layout, which is where the axes end up
    pixels = figure.dpi / 72.0
    anchors = axis.transData.transform(points[["speed", "accuracy"]].to_numpy(dtype=float))
    look = {"fontsize": 7, "linespacing": 1.0, "va": "bottom"}
    sizes = [_size(axis.text(0, 0, wrapped(label, width), **look)) for label in points["label"]]
    bounds = Box(*axis.get_window_extent().extents)
    taken, corners = _bars(axis, points, anchors, pixels), axis.transData.transform(front)
    line = [_around(a, b, 2 * pixels) for a, b in pairwise(corners)]
    places = place(anchors, sizes, [*taken, *line], bounds, pixels) or place(anchors, sizes, taken, bounds, pixels)
    for anchor, box, label in zip(anchors, places or (), points["label"], strict=False):
        at = tuple(axis.transData.inverted().transform(anchor))
        offset = ((box.left - anchor[0]) / pixels, (box.bottom - anchor[1]) / pixels)
        axis.annotate(wrapped(label, width), at, offset, textcoords="offset points", zorder=4, **look)
        if box.distance(anchor) > DISTANCES[1] * pixels:
            near = np.clip(anchor, box[:2], box[2:])
            axis.plot(*axis.transData.inverted().transform([anchor, near]).T, color="0.6", linewidth=0.5, zorder=2)
    return places is not None


def _size(text: Any) -> tuple[float, float]:
    """Return width and height of a text in pixels, and take it away."""
    extent = text.get_window_extent()
    text.remove()
    return extent.width, extent.height


def _around(a: Floats, b: Floats, margin: float) -> Box:
    """Return the rectangle around two points."""
    low, high = np.minimum(a, b) - margin, np.maximum(a, b) + margin
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _bars(axis: Any, points: pd.DataFrame, anchors: Floats, pixels: float) -> list[Box]:
    """Return the rectangles of points and their bars, which labels must not cover."""
    boxes = [_around(anchor, anchor, 3 * pixels) for anchor in anchors]
    for row in points.itertuples():
        x, y = row.speed, row.accuracy
        for dx, dy in ((row.speed_std, 0.0), (0.0, row.accuracy_std)):
            if dx > 0 or dy > 0:
                low, high = axis.transData.transform([(max(x - dx, 0.1 * x), y - dy), (x + dx, y + dy)])
                boxes.append(_around(low, high, pixels))
    return boxes


def place(
    anchors: Floats, sizes: Sequence[tuple[float, float]], taken: Sequence[Box], bounds: Box, pixels: float
) -> list[Box] | None:
    """Return a rectangle for the label of each point, none of which covers another, a point or a border.

    A label stands nearer to its own point than to others. The points that have the fewest free places choose first,
    each the nearest free one. None where a label finds no place.

    Args:
        anchors: n×2, the points.
        sizes: width and height of each label.
        taken: rectangles that labels must not cover.
        bounds: that labels must not leave.
        pixels: of a point (1/72 inch).
    """

    def free(i: int, boxes: Sequence[Box]) -> list[Box]:
        candidates = (_beside(anchors[i], sizes[i], d * pixels, way) for d in DISTANCES for way in DIRECTIONS)
        own = (c for c in candidates if c.within(bounds) and min(map(c.distance, anchors)) == c.distance(anchors[i]))
        return [c for c in own if not any(c.overlap(other) for other in boxes)]

    found: dict[int, Box] = {}
    for i in sorted(range(len(sizes)), key=lambda i: (len(free(i, taken)), i)):
        places = free(i, [*taken, *found.values()])
        if not places:
            return None
        found[i] = places[0]
    return [found[i] for i in range(len(sizes))]


def _beside(anchor: Floats, size: tuple[float, float], distance: float, way: tuple[int, int]) -> Box:
    """Return a label's rectangle at a distance from its point, in a direction."""
    width, height = size
    reach = distance if 0 in way else 0.7 * distance
    x = anchor[0] + way[0] * reach - {1: 0.0, 0: width / 2, -1: width}[way[0]]
    y = anchor[1] + way[1] * reach - {1: 0.0, 0: height / 2, -1: height}[way[1]]
    return Box(float(x), float(y), float(x + width), float(y + height))

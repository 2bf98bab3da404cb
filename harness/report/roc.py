"""ROC and precision-recall curves by category, a line a label: means over seeds by vertical averaging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from harness.data.protocol_rules import OWN_TEST
from harness.metrics import (
    MeanCurve,
    mean_precision_recall,
    mean_roc,
    precision_recall_curve,
    roc_curve,
)
from harness.report.artifacts import Artifacts, ImageSet, groups_of_same_images, same_images
from harness.report.figures import WIDTH, Figure, looks, pyplot, save, slug_of, styles, wrapped
from harness.report.variants import by_value, label_order

SECTION = "ROC and precision-recall"
CATEGORIES = 8  # on a page: four rows of two
LABELS = 10  # in a figure: the palette's colours
FIGURES = 30  # of a report: more take minutes to draw
LONGEST = 120  # name of a file
POINTS = 600  # of a line, across: as many as are seen
TICKS = (0, 25, 50, 75, 100)
GREY = {"color": "0.45", "linewidth": 0.7, "linestyle": (0, (4, 3))}
CAPTION = (
    "ROC (left: true over false positive rate, TPR and FPR) and precision-recall curves (right) of the last epoch's "
    "scores on the test images. A line is the mean "
    "over seeds (and folds, if any) by vertical averaging: the mean true positive rate at each false positive rate, "
    "the mean precision at each recall (as stairs). Its band reaches from the lowest to the highest seed (no band with "
    "one). Dashed: what guessing attains."
)
DRAWN = (
    "The test images of these runs are drawn by seed or fold: each curve comes from images of its own, and the mean is "
    "one over draws."
)
Item = TypeVar("Item")
Curves = dict[str, dict[str, list["Line"]]]  # data set -> panel -> lines


class Line(NamedTuple):
    """A label's curves of one category, averaged over the runs of its seeds."""

    label: str
    category: str
    run_ids: list[str]
    roc: MeanCurve
    precision_recall: MeanCurve
    defective: float  # share of the test images
    drawn: bool  # whether the seed draws the test images


def draw_curves(runs: pd.DataFrame, artifacts: Artifacts, folder: Path) -> Iterator[Figure]:
    """Draw each data set's curves into a folder, as PDF and PNG.

    Args:
        runs: those of :func:`harness.report.artifacts.scored_runs`.
        artifacts: of these runs; notes what is left out.
        folder: that exists.
    """
    names = Names()
    found = [(dataset, list(_sheets(panels))) for dataset, panels in curves_of(runs, artifacts).items()]
    wanted = [(dataset, i, len(of), *sheet) for dataset, of in found for i, sheet in enumerate(of, 1)]
    if len(wanted) > FIGURES:
        artifacts.note(f"{SECTION}: only the first {FIGURES} of {len(wanted)} figures are drawn.")
    for dataset, number, count, panels, style in wanted[:FIGURES]:
        name = names("curves", dataset)
        _draw(panels, style, folder / name)
        caption = f"{CAPTION} {DRAWN}" if any(line.drawn for lines in panels.values() for line in lines) else CAPTION
        yield Figure(name, dataset + of_several(number, count), _behind(panels), SECTION, caption)


def curves_of(runs: pd.DataFrame, artifacts: Artifacts) -> Curves:
    """Return the lines of each panel of each data set: runs on different test images share no panel."""
    artifacts.preload(runs["run_id"])
    found: Curves = {}
    for dataset, category in sorted({*zip(runs["dataset"], runs["category"], strict=True)}, key=_in_order):
        of = runs[(runs["dataset"] == dataset) & (runs["category"] == category)]
        lines, images = {}, {}
        for label in label_order(of["label"].unique()):
            kept = _on_same_images(of[of["label"] == label], artifacts)
            if kept and (line := _line(label, category, kept, artifacts)) is not None:
                lines[label], images[label] = line, kept
        groups = groups_of_same_images({label: dict(own.values()) for label, own in images.items()})
        for number, group in enumerate(groups, 1):
            panel = category if len(groups) == 1 else f"{category} (test images {number} of {len(groups)})"
            found.setdefault(dataset, {})[panel] = [lines[label] for label in group]
    return found


def pages(items: Sequence[Item], most: int) -> list[list[Item]]:
    """Return items in as few pages as hold them, evenly filled."""
    count = -(-len(items) // most)
    edges = [round(i * len(items) / count) for i in range(count + 1)] if count else [0]
    return [list(items[a:b]) for a, b in pairwise(edges)]


class Names:
    """Names of figures' files: readable, not too long, and each given once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, *parts: str) -> str:
        """Return the name that is made of some parts: of a figure's kind, and what it shows."""
        name = slug_of("_".join(parts))[:LONGEST]
        distinct, count = name, 1
        while distinct.lower() in self._taken:  # "a b" and "a_b" are one slug, and "A" and "a" one file somewhere
            count += 1
            distinct = f"{name}-{count}"
        self._taken.add(distinct.lower())
        return distinct


def of_several(number: int, count: int) -> str:
    """Return what a heading adds where it has several figures."""
    return f" ({number} of {count})" if count > 1 else ""


def legend(names: Sequence[str]) -> tuple[dict[str, str], int, float]:
    """Return names as a legend at the full width shows them, in how many columns, and its height in inches."""
    shown = {name: wrapped(name, 60) for name in names}
    longest = max(len(line) for text in shown.values() for line in text.split("\n"))
    columns = max(1, min(len(shown), int(WIDTH / (0.062 * longest + 0.45))))
    lines = sum(text.count("\n") + 1 for text in shown.values())
    return shown, columns, 0.15 * -(-lines // columns) + 0.1


def _in_order(place: tuple[str, str]) -> tuple[Any, str]:
    return by_value(place[0]), place[1]


def _on_same_images(runs: pd.DataFrame, artifacts: Artifacts) -> dict[str, tuple[str, ImageSet]]:
    """Return a label's runs that may be averaged: run id -> seed or fold, images.

    Where the seed draws the test images, they may differ; elsewhere they may not, and the most common ones count.
    """
    runs = runs.sort_values(["seed", "fold"], kind="stable")
    rows = zip(runs["run_id"], runs["unit"], runs["protocol"], strict=True)
    found = {run: (unit, images, by) for run, unit, by in rows if (images := artifacts.images(run)) is not None}
    fixed = [images for _, images, protocol in found.values() if protocol in OWN_TEST]
    if same_images(fixed):
        return {run: (unit, images) for run, (unit, images, _) in found.items()}
    usual = max(fixed, key=lambda images: sum(images.same(other) for other in fixed))
    others = [run for run, (_, images, protocol) in found.items() if protocol in OWN_TEST and not images.same(usual)]
    artifacts.note(
        f"{len(others)} runs of {' / '.join(runs.iloc[0][['label', 'dataset', 'category']])} have other test images "
        f"than the rest ({', '.join(others[:3])}): no mean curve counts them."
    )
    return {run: (unit, images) for run, (unit, images, _) in found.items() if run not in others}


def _line(label: str, category: str, kept: Mapping[str, tuple[str, ImageSet]], artifacts: Artifacts) -> Line | None:
    scores = {run: frame for run in kept if (frame := artifacts.scores(run)) is not None}
    both = {run: frame for run, frame in scores.items() if frame["label"].nunique() == 2}
    if len(both) < len(scores):
        artifacts.note("Runs whose test images are all good or all anomalous have no curve.")
    if not both:
        return None
    pairs = [(frame["label"].to_numpy(), frame["score"].to_numpy()) for frame in both.values()]
    return Line(
        label,
        category,
        list(both),
        mean_roc(roc_curve(*pair) for pair in pairs),
        mean_precision_recall(precision_recall_curve(*pair) for pair in pairs),
        float(np.mean([labels.mean() for labels, _ in pairs])),
        not same_images([kept[run][1] for run in both]),
    )


def _sheets(panels: Mapping[str, list[Line]]) -> Iterator[tuple[dict[str, list[Line]], dict[str, dict[str, Any]]]]:
    """Yield the panels of each figure of a data set, and how its labels look: the same in all its figures."""
    labels = label_order({line.label for lines in panels.values() for line in lines})
    for together in pages(labels, LABELS):
        shown = {panel: [line for line in lines if line.label in together] for panel, lines in panels.items()}
        for page in pages([panel for panel, lines in shown.items() if lines], CATEGORIES):
            yield {panel: shown[panel] for panel in page}, styles(together)


def _behind(panels: Mapping[str, list[Line]]) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for panel, lines in panels.items():
        for line in lines:
            found.setdefault(line.label, {})[panel] = line.run_ids
    return found


def _draw(panels: Mapping[str, list[Line]], style: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    shown = {line.label for lines in panels.values() for line in lines}
    names, columns, below = legend([label for label in style if label in shown])
    across = min(2, len(panels))
    rows = -(-len(panels) // across)
    size = (WIDTH, (1.75 if across == 2 else 2.6) * rows + 0.25 + below)
    with looks():
        figure, axes = pyplot().subplots(rows, 2 * across, figsize=size, squeeze=False, layout="constrained")
        pairs = axes.reshape(-1, 2)
        for number, ((left, right), (panel, lines)) in enumerate(zip(pairs, panels.items(), strict=False)):
            _draw_pair(left, right, lines, style)
            left.set_title(wrapped(panel, 52), loc="left")
            if number + across >= len(panels):  # nothing stands below
                left.set_xlabel("FPR (%)")
                right.set_xlabel("Recall (%)")
        for axis in pairs[len(panels) :].flat:
            axis.set_axis_off()
        handles = [pyplot().Line2D([], [], label=text, linewidth=1.5, **style[label]) for label, text in names.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
        save(figure, path)


def _draw_pair(left: Any, right: Any, lines: Sequence[Line], style: Mapping[str, Mapping[str, Any]]) -> None:
    left.plot([0, 100], [0, 100], **GREY)
    right.axhline(100 * float(np.mean([line.defective for line in lines])), **GREY)
    for line in lines:
        for axis, curve in ((left, line.roc), (right, line.precision_recall)):
            x, mean, low, high = (100 * values for values in _thinned(curve))
            axis.plot(x, mean, linewidth=1.1, **style[line.label])
            if len(line.run_ids) > 1:
                axis.fill_between(x, low, high, color=style[line.label]["color"], alpha=0.18, linewidth=0)
    for axis, name in ((left, "TPR (%)"), (right, "Precision (%)")):
        axis.set(xlim=(-2, 102), ylim=(-2, 102), xticks=TICKS, yticks=TICKS, ylabel=name)
        axis.tick_params(length=2, pad=2)
        axis.grid(linewidth=0.4)


def _thinned(curve: MeanCurve) -> MeanCurve:
    """Return a curve without points that lie between others closer than can be seen."""
    step = np.floor(curve.x * POINTS)
    change = step[1:] != step[:-1]
    keep = np.concatenate(([True], change)) | np.concatenate((change, [True]))
    return MeanCurve(*(values[keep] for values in curve))

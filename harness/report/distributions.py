"""Scores of good and anomalous images, and what a threshold makes of them (paper 004, Fig. 3): a row a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.metrics import Confusion, confusion, f1_max_threshold
from harness.report.artifacts import Artifacts, ImageSet, groups_of_same_images
from harness.report.figures import WIDTH, Figure, looks, pyplot, save, wrapped
from harness.report.holes import seed_and_fold
from harness.report.roc import Names, of_several, pages
from harness.report.variants import by_value, label_order

SECTION = "Score distributions"
LABELS = 8  # on a page
FIGURES = 30  # of a section: a page of more takes minutes to draw, and nobody looks through it
BINS = 30
ROW, LINE, BELOW, PANEL = 0.98, 0.13, 0.3, 0.57  # inches: a label's row, a further line of its name, the legend
LEFT, MATRIX, RIGHT = 0.5, 5.27, 0.06  # inches from the edges: histograms, confusion matrices, what is free
KINDS = (("Good", "#0173b2", ""), ("Anomalous", "#de8f05", "/////"))  # colours of the palette, and hatching for print
LINE_LOOKS: dict[str, Any] = {"color": "black", "linewidth": 1.0, "linestyle": (0, (3, 2))}
RULES = {  # the first that a run has is shown
    "fpr_5": "FPR 5 % on validation",
    "f1_validation": "best F1 on validation",
    "f1_test": "best F1 on test (oracle)",
}
CAPTION = (
    "Scores of the test images at the last epoch, of one seed (scores of several are not on one scale), and the "
    "confusion matrix at a threshold (dashed line; an image is called anomalous from it on). A bar is the share of the "
    "good or of the anomalous images. The threshold is chosen on validation images where there are any, else on the "
    "test images themselves, which is an oracle. FPR 5 %: at most so many of the good validation images alarm. "
    "Axes differ between methods, whose scores have no common unit."
)


@dataclass(frozen=True)
class Cell:
    """One run of each label of a category, all of them tested on the same images.

    Attributes:
        unit: the seed (and fold) that most labels have, as it reads.
        run_ids: label -> run, labels in order.
        others: label -> its own seed, for labels that lack that of most.
        note: what the heading adds: which of several sets of test images, and which labels of many.
    """

    dataset: str
    category: str
    unit: str
    run_ids: dict[str, str]
    others: dict[str, str]
    note: str = ""

    @property
    def title(self) -> str:
        """The heading of a figure."""
        return f"{self.dataset} / {self.category}{self.note}, {self.unit}"

    def called(self, label: str) -> str:
        """Return what a label is called: its seed is told where it has another."""
        return f"{label} ({self.others[label]})" if label in self.others else label


class Threshold(NamedTuple):
    """A threshold of the last epoch, and how it was chosen: a key of :data:`RULES`."""

    rule: str
    value: float
    counts: Confusion


def draw_distributions(runs: pd.DataFrame, artifacts: Artifacts, folder: Path) -> Iterator[Figure]:
    """Draw the distributions of each category into a folder, as PDF and PNG.

    Args:
        runs: those of :func:`harness.report.artifacts.scored_runs`.
        artifacts: of these runs; notes what is left out.
        folder: that exists.
    """
    names = Names()
    for cell in within_budget(cells(runs, artifacts), artifacts, SECTION):
        for page in sheets(cell, pages(list(cell.run_ids), LABELS)):
            name = names("scores", page.dataset, page.category)
            _draw(page, artifacts, folder / name)
            lines = {label: [run_id] for label, run_id in page.run_ids.items()}
            yield Figure(name, page.title, lines, SECTION, CAPTION, (page.dataset, page.category))


def cells(runs: pd.DataFrame, artifacts: Artifacts) -> list[Cell]:
    """Return one run of each label of each category: of the seed that most labels have, the lowest of equally common.

    Labels whose test images differ are in cells of their own. Runs without scores do not count.
    """
    artifacts.preload(runs["run_id"])
    scored = runs[runs["run_id"].map(artifacts.images).notna()]
    found: list[Cell] = []
    for (dataset, category), of in scored.groupby(["dataset", "category"]):
        of = of.assign(order=[(seed, int(fold or 0)) for seed, fold in zip(of["seed"], of["fold"], strict=True)])
        count = of.groupby("order")["label"].nunique()
        chosen = min(count.index, key=lambda order: (-count[order], order))
        of = of.assign(other=of["order"] != chosen).sort_values(["other", "order"], kind="stable")
        one = of.drop_duplicates("label").set_index("label").loc[label_order(of["label"].unique())]
        found += _same_images_apart(str(dataset), str(category), one, artifacts)
    return sorted(found, key=lambda cell: by_value(cell.dataset))


def sheets(cell: Cell, labels: Sequence[Sequence[str]]) -> Iterator[Cell]:
    """Yield a cell's parts that have a figure each."""
    for number, together in enumerate(labels, 1):
        run_ids = {label: cell.run_ids[label] for label in together}
        others = {label: unit for label, unit in cell.others.items() if label in run_ids}
        note = cell.note + of_several(number, len(labels))
        yield Cell(cell.dataset, cell.category, cell.unit, run_ids, others, note)


def within_budget(found: Sequence[Cell], artifacts: Artifacts, section: str) -> list[Cell]:
    """Return the cells of as many categories as a section has figures for; a sentence tells of the others."""
    count: dict[tuple[str, str], int] = {}
    for cell in found:
        place = (cell.dataset, cell.category)
        count[place] = count.get(place, 0) + len(pages(list(cell.run_ids), LABELS))
    total = np.cumsum(list(count.values()))
    kept = {place for i, place in enumerate(count) if i == 0 or total[i] <= FIGURES}
    if len(kept) < len(count):
        artifacts.note(
            f"{section}: of {len(count)} categories only the first {len(kept)} have figures; a report of fewer runs "
            "(experiment=…) shows the others."
        )
    return [cell for cell in found if (cell.dataset, cell.category) in kept]


def threshold(run_id: str, artifacts: Artifacts) -> Threshold:
    """Return a run's threshold by the first rule of :data:`RULES` that it has, and what it does to the test images.

    A run without `thresholds.csv` gets the one with the highest F1 on its test images.
    """
    scores, table = artifacts.scores(run_id), artifacts.thresholds(run_id)
    assert scores is not None
    labels, values = scores["label"].to_numpy(), scores["score"].to_numpy()
    known: dict[str, float] = {}
    if table is not None:
        last = table[table["selection"] == "last"]
        known = dict(zip(last["rule"], last["value"].astype(float), strict=True))
    for rule in RULES:
        if rule in known:
            return Threshold(rule, known[rule], confusion(labels, values, known[rule]))
    value = f1_max_threshold(labels, values).threshold
    if not np.isfinite(value):  # images of one kind: above all of them, which calls everything good
        value = float(np.nextafter(values.max(), np.inf))
    return Threshold("f1_test", value, confusion(labels, values, value))


def _same_images_apart(dataset: str, category: str, one: pd.DataFrame, artifacts: Artifacts) -> Iterator[Cell]:
    """Yield the cells of a category: a row of `one` is a label's run."""
    images: dict[str, dict[str, ImageSet]] = {}
    for label, run_id in one["run_id"].items():
        found = artifacts.images(run_id)
        assert found is not None
        images[str(label)] = {"": found}
    groups = groups_of_same_images(images)
    for number, group in enumerate(groups, 1):
        of = one.loc[group]
        count = Counter(of["order"])
        usual = min(count, key=lambda order: (-count[order], order))
        units = dict(zip(group, map(seed_and_fold, of["seed"], of["fold"]), strict=True))
        others = {label: units[label] for label, order in of["order"].items() if order != usual}
        unit = next(units[label] for label in group if label not in others)
        note = f" (test images {number} of {len(groups)})" if len(groups) > 1 else ""
        yield Cell(dataset, category, unit, dict(of["run_id"].items()), others, note)


def canvas(figure: Any) -> Any:
    """Return axes over a whole figure that count inches: what is drawn there costs a tenth of axes of its own."""
    axis = figure.add_axes((0, 0, 1, 1), zorder=-1)
    axis.set(xlim=(0, figure.get_figwidth()), ylim=(0, figure.get_figheight()))
    axis.set_axis_off()
    return axis


def _draw(cell: Cell, artifacts: Artifacts, path: Path) -> None:
    titles = {label: wrapped(cell.called(label), 72) for label in cell.run_ids}
    heights = {label: ROW + LINE * text.count("\n") for label, text in titles.items()}
    whole = sum(heights.values()) + BELOW
    with looks():
        figure, bottom = pyplot().figure(figsize=(WIDTH, whole)), whole
        sheet = canvas(figure)
        for label, run_id in cell.run_ids.items():
            bottom -= heights[label]
            scores, chosen = artifacts.scores(run_id), threshold(run_id, artifacts)
            assert scores is not None
            axis = figure.add_axes(_place(LEFT, bottom + 0.2, MATRIX - 0.77 - LEFT, PANEL, whole))
            _histograms(axis, scores, chosen)
            _matrix(sheet, bottom + 0.2, chosen.counts)
            top = bottom + 0.2 + PANEL + 0.04
            sheet.text(LEFT, top, titles[label], va="bottom")
            sheet.text(WIDTH - RIGHT, top, f"Threshold: {RULES[chosen.rule]}", ha="right", va="bottom", fontsize=7)
        handles = [*_bars(), pyplot().Line2D([], [], label="Threshold", **LINE_LOOKS)]
        figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False)
        save(figure, path)


def _place(left: float, bottom: float, width: float, height: float, of_height: float) -> tuple[float, ...]:
    """Return where axes stand, given in inches."""
    return left / WIDTH, bottom / of_height, width / WIDTH, height / of_height


def _bars() -> list[Any]:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    return [
        Patch(label=name, facecolor=(*to_rgb(look), 0.5), edgecolor=look, hatch=hatch) for name, look, hatch in KINDS
    ]


def _histograms(axis: Any, scores: pd.DataFrame, chosen: Threshold) -> None:
    values, labels = scores["score"].to_numpy(dtype=float), scores["label"].to_numpy()
    low, high = _range(values, chosen.value)
    edges = np.linspace(low, high, BINS + 1)
    for label, (_, look, hatch) in enumerate(KINDS):
        of = values[labels == label]
        if of.size:
            shares = 100.0 * np.histogram(of, edges)[0] / of.size
            axis.stairs(shares, edges, fill=True, facecolor=look, alpha=0.5, linewidth=0)
            axis.stairs(shares, edges, edgecolor=look, hatch=hatch, linewidth=0.9)
    axis.axvline(chosen.value, **LINE_LOOKS)
    axis.set(xlim=(low, high), ylabel="Share (%)")
    axis.tick_params(length=2, pad=2)
    axis.grid(linewidth=0.4)
    axis.yaxis.get_major_locator().set_params(nbins=3)


def _range(values: NDArray[np.float64], at: float) -> tuple[float, float]:
    """Return what an axis shows: all scores and the threshold, with a margin."""
    low, high = min(values.min(), at), max(values.max(), at)
    margin = 0.03 * (high - low) or 0.5 * max(abs(high), 1e-12)
    return float(low - margin), float(high + margin)


def _matrix(sheet: Any, bottom: float, counts: Confusion) -> None:
    """Draw a confusion matrix, its lower edge at a height in inches: what the images are down, what is said across."""
    from matplotlib.cm import Blues
    from matplotlib.patches import Rectangle

    width, height = (WIDTH - RIGHT - MATRIX) / 2, PANEL / 2
    columns = (("called good", counts.tn, counts.fn), ("called anomalous", counts.fp, counts.tp))
    for column, (said, *cells) in enumerate(columns):
        x = MATRIX + width * column
        sheet.text(x + width / 2, bottom - 0.03, said, ha="center", va="top", fontsize=7)
        for row, (count, of) in enumerate(zip(cells, (counts.tn + counts.fp, counts.fn + counts.tp), strict=True)):
            share, y = count / of if of else 0.0, bottom + height * (1 - row)
            sheet.add_patch(
                Rectangle((x, y), width, height, facecolor=Blues(share / 1.6), edgecolor="0.7", linewidth=0.6)
            )
            text = f"{count} ({100 * share:.1f} %)"
            sheet.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=7)
    for row, name in enumerate(("anomalous", "good")):
        sheet.text(MATRIX - 0.05, bottom + height * (row + 0.5), name, ha="right", va="center", fontsize=7)

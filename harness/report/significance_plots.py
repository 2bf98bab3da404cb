"""Who is better than whom, as figures: a matrix of p values, and a critical difference diagram (Demšar 2006).

Pure drawing: the tests are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.report.figures import NARROW, WIDTH, Figure, looks, pyplot, save, wrapped

SECTION = "Differences"
LEVELS = (0.05, 0.01, 0.001)
NAMED = 8  # labels; above, columns bear numbers
ROW_WIDTHS = (24, 30, 36, 42)  # characters of a row's label in a line; the first that needs few enough lines is taken
NOT_SEPARATED, NO_TEST = "#e3e3e3", "#9a9a9a"

WRAP = 36  # characters of a method's name in a line, beside the rank axis
LINE = 0.11  # inches: a line of text of 7 points
BAR_STEP = 0.075  # inches: between bars of cliques
STUB = 0.36  # inches: of a line beside the axis, over which the rank is written
TICKS = 12  # ranks; of more, every fifth is written

Floats = NDArray[np.float64]


def draw_pvalue_matrix(
    name: str,
    title: str,
    labels: Sequence[str],
    p: ArrayLike,
    differences: ArrayLike,
    folder: Path,
    caption: str,
    lines: Mapping[str, Any],
    higher_is_better: bool = True,
) -> Figure:
    """Draw corrected p values of all pairs: the colour says whether the row is better or worse, and how surely.

    Args:
        name: of the files.
        title: heading of the figure.
        labels: of rows and columns, k of them.
        p: k×k corrected p values, symmetric; nan where there is no test.
        differences: k×k, mean of the row minus mean of the column.
        folder: where to draw.
        caption: which test and correction; what colours mean is added.
        lines: the runs behind it.
        higher_is_better: whether a positive difference means that the row is better.
    """
    pvalues, signed = np.asarray(p, dtype=float), np.asarray(differences, dtype=float)
    codes = levels(pvalues, signed if higher_is_better else -signed)
    size = min(WIDTH, max(NARROW, 2.2 + 0.46 * len(labels)))
    rows = [row_label(label, 2 if len(labels) > NAMED else 3) for label in labels]
    shortened = {i: labels[i - 1] for i, row in enumerate(rows, 1) if row.endswith("…")}
    numbered = len(labels) > NAMED or bool(shortened)
    if numbered:
        columns = [rf"$\mathbf{{{i}}}$" for i in range(1, len(labels) + 1)]
        rows = [f"{row}  {number}" for row, number in zip(rows, columns, strict=True)]
    else:
        columns = rows
    with looks():
        figure, axis = pyplot().subplots(figsize=(size, 0.8 * size), layout="constrained")
        _draw_cells(axis, codes, pvalues)
        axis.set_yticks(np.arange(len(labels)) + 0.5, labels=rows)
        axis.set_xticks(np.arange(len(labels)) + 0.5, labels=columns, rotation=0 if numbered else 90)
        axis.xaxis.tick_top()
        axis.tick_params(length=0, pad=2)
        _draw_key(figure, axis)
        save(figure, folder / name)
    return Figure(name, title, lines, SECTION, f"{caption} {_reading(codes, numbered, shortened)}".strip())


def levels(p: Floats, better: Floats) -> Floats:
    """Return codes of pairs: 1, 2, 3 where the row is better at .05, .01, .001, negative where it is worse.

    0 is not separated, nan not tested; the diagonal is nan.
    """
    count = np.sum([p < level for level in LEVELS], axis=0)
    codes = np.where(np.isnan(p), np.nan, np.sign(np.nan_to_num(better)) * count)
    np.fill_diagonal(codes, np.nan)
    return codes


def p_text(p: float) -> str:
    """Return a p value in two significant digits, without the zero before the point."""
    return "<.001" if p < LEVELS[-1] else f"{Decimal(f'{p:.1e}'):f}".removeprefix("0")


def row_label(label: str, most: int) -> str:
    """Return a label in at most so many lines, shortened where it does not fit."""
    for width in ROW_WIDTHS:
        lines = wrapped(label, width).split("\n")
        if len(lines) <= most:
            return "\n".join(lines)
    return "\n".join([*lines[: most - 1], lines[most - 1][: ROW_WIDTHS[-1] - 2] + " …"])


def _draw_cells(axis: Any, codes: Floats, p: Floats) -> None:
    plt, k = pyplot(), len(codes)
    axis.pcolormesh(np.ma.masked_invalid(codes), cmap=_colours(), vmin=-3.5, vmax=3.5, edgecolors="white", linewidth=1)
    axis.set(xlim=(0, k), ylim=(k, 0), facecolor="white")
    axis.grid(False)
    size = 7 if k <= NAMED else max(5.0, 7 - 0.2 * (k - NAMED))
    for row, column in np.ndindex(codes.shape):
        if row == column:
            continue
        if np.isnan(codes[row, column]):
            hatched = {"fill": False, "hatch": "/////", "edgecolor": NO_TEST, "linewidth": 0}
            axis.add_patch(plt.Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, **hatched))
            continue
        colour = "white" if abs(codes[row, column]) == len(LEVELS) else "black"
        text = p_text(float(p[row, column]))
        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=colour)


def _colours() -> Any:
    """Return the colours of the codes -3 to 3: orange for worse, blue for better, as light as the difference is weak.

    Blue and orange stay apart for every kind of colour blindness; the darkest bear white text.
    """
    from matplotlib.colors import ListedColormap

    worse, better = ("#fde0bd", "#f2a65a", "#a84300"), ("#cfe3f2", "#74b1dc", "#01568a")
    return ListedColormap([*reversed(worse), NOT_SEPARATED, *better])


def _draw_key(figure: Any, axis: Any) -> None:
    """Add the bar that tells what colours mean."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    shades = ScalarMappable(Normalize(-3.5, 3.5), _colours())
    bar = figure.colorbar(shades, ax=axis, orientation="horizontal", fraction=0.045, pad=0.03, aspect=35, shrink=0.95)
    marks = [f"<{level:g}".replace("0.", ".") for level in LEVELS]
    bar.set_ticks(range(-3, 4), labels=[*reversed(marks), f"≥{LEVELS[0]:g}".replace("0.", "."), *marks])
    bar.ax.tick_params(length=0, pad=1)
    bar.outline.set_visible(False)
    bar.set_label("row worse  ←  p  →  row better", labelpad=1)


def _reading(codes: Floats, numbered: bool, shortened: Mapping[int, str]) -> str:
    parts = ["Blue: the row is better than the column, orange: worse; grey: not separated at 5 %."]
    untested = np.isnan(codes) & ~np.eye(len(codes), dtype=bool)
    parts += ["Hatched: not tested."] if untested.any() else []
    parts += ["Columns are numbered as rows are."] if numbered else []
    return " ".join(parts + [f"{i} is {label}." for i, label in shortened.items()])


class Elbow(NamedTuple):
    """How one method hangs on the rank axis: from its rank down to `depth`, and out to its side."""

    label: str
    rank: float
    left: bool
    depth: float  # inches below the axis


class _Scale(NamedTuple):
    """The axis in inches from the upper left corner of the figure, and from ranks to inches."""

    k: int
    left: float
    right: float
    top: float

    def __call__(self, rank: float) -> float:
        return self.left + (rank - 1) / max(self.k - 1, 1) * (self.right - self.left)


def draw_critical_difference(
    name: str,
    title: str,
    labels: Sequence[str],
    mean_ranks: Sequence[float],
    cliques: Sequence[Sequence[str]],
    critical_difference: float | None,
    folder: Path,
    caption: str,
    lines: Mapping[str, Any],
) -> Figure:
    """Draw mean ranks on an axis, the best at the left, and a bar over each group that no test separates.

    Args:
        name: of the files.
        title: heading of the figure.
        labels: of the methods.
        mean_ranks: of each label; 1 is best.
        cliques: labels of each group; groups of one are not drawn.
        critical_difference: of Nemenyi's test, drawn above the axis; None for tests that have none.
        folder: where to draw.
        caption: which test; what the bars mean is added.
        lines: the runs behind it.
    """
    bars = bar_rows(dict(zip(labels, mean_ranks, strict=True)), cliques)
    elbows = hang(labels, mean_ranks, 0.2 + BAR_STEP * (1 + max((row for *_, row in bars), default=-1)))
    top = 0.3 if critical_difference is None else 0.6
    height = top + max((e.depth + LINE * _count(e.label) for e in elbows), default=0.0)
    with looks():
        figure = pyplot().figure(figsize=(WIDTH, height))
        axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axis.set(xlim=(0, WIDTH), ylim=(height, 0))
        axis.set_axis_off()
        scale = _Scale(len(labels), *_ends(figure, axis, elbows), top)
        _draw_ranks(axis, scale, critical_difference)
        for elbow in elbows:
            _draw_elbow(axis, scale, elbow)
        for low, high, row in bars:
            y = top + 0.11 + BAR_STEP * row
            ends = [scale(low) - 0.03, scale(high) + 0.03]
            axis.plot(ends, [y, y], color="black", linewidth=3, solid_capstyle="butt")
        save(figure, folder / name)
    joins = "A thick bar joins methods that the test does not separate." if bars else "The test separates all methods."
    reading = f"Mean ranks, the best (1) at the left. {joins}" if len(labels) > 1 else "Mean ranks."
    return Figure(name, title, lines, SECTION, f"{caption} {reading}".strip())


def hang(labels: Sequence[str], mean_ranks: Sequence[float], below: float) -> list[Elbow]:
    """Return where each method's name stands: the better half at the left, and no line crosses another's.

    Args:
        labels: of the methods.
        mean_ranks: of each.
        below: inches from the axis to the middle of the first line of text.
    """
    order = sorted(zip(mean_ranks, range(len(labels)), labels, strict=True))
    half = (len(order) + 1) // 2
    elbows = []
    for left, side in ((True, order[:half]), (False, order[: half - 1 : -1])):
        depth = below
        for rank, _, label in side:
            elbows.append(Elbow(label, rank, left, depth))
            depth += LINE * _count(label) + 0.07
    return elbows


def bar_rows(ranks: Mapping[str, float], cliques: Sequence[Sequence[str]]) -> list[tuple[float, float, int]]:
    """Return each group's lowest and highest rank, and the row in which its bar does not touch another's."""
    spans = sorted((min(of), max(of)) for of in ([ranks[label] for label in c] for c in cliques) if len(of) > 1)
    gap = 0.03 * len(ranks)
    ends: list[float] = []
    rows = []
    for low, high in spans:
        row = next((i for i, end in enumerate(ends) if low - end > gap), len(ends))
        ends[row : row + 1] = [high]
        rows.append((low, high, row))
    return rows


def _count(label: str) -> int:
    return wrapped(label, WRAP).count("\n") + 1


def _ends(figure: Any, axis: Any, elbows: Sequence[Elbow]) -> tuple[float, float]:
    """Return where the axis begins and ends, so that the longest name at each side has room."""
    widths = {True: 0.3, False: 0.3}
    for elbow in elbows:
        text = axis.text(0, 0, wrapped(elbow.label, WRAP), fontsize=7)
        inches = text.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi
        widths[elbow.left] = max(widths[elbow.left], inches)
        text.remove()
    return STUB + 0.1 + widths[True], WIDTH - STUB - 0.1 - widths[False]


def _draw_ranks(axis: Any, scale: _Scale, critical_difference: float | None) -> None:
    """Draw the axis of ranks and, above it, how far ranks must be apart."""
    look = {"color": "black", "linewidth": 0.8}
    axis.plot([scale.left, scale.right], [scale.top, scale.top], **look)
    for rank in range(1, scale.k + 1):
        axis.plot([scale(rank)] * 2, [scale.top - 0.05, scale.top], **look)
        if rank == 1 or scale.k <= TICKS or rank % 5 == 0:
            axis.text(scale(rank), scale.top - 0.07, str(rank), ha="center", va="bottom", fontsize=7)
    if critical_difference is None:
        return
    fits = critical_difference <= scale.k - 1
    end = scale(1 + critical_difference) if fits else scale.right
    axis.plot([scale.left, end], [0.27, 0.27], **look)
    for x in (scale.left, end) if fits else (scale.left,):
        axis.plot([x, x], [0.23, 0.31], **look)
    text = f"CD = {critical_difference:.2f}" + ("" if fits else " (longer than the axis)")
    axis.text(scale.left, 0.2, text, va="bottom", fontsize=7)


def _draw_elbow(axis: Any, scale: _Scale, elbow: Elbow) -> None:
    """Draw a method's line, its rank over the end of the line, and its name."""
    x, y = scale(elbow.rank), scale.top + elbow.depth
    side, inner, outer, sign = (
        (scale.left - STUB, "left", "right", -1) if elbow.left else (scale.right + STUB, "right", "left", 1)
    )
    axis.plot([x, x, side], [scale.top, y, y], color="0.45", linewidth=0.7)
    axis.text(side, y - 0.015, f"{elbow.rank:.2f}", ha=inner, va="bottom", fontsize=6)
    name = wrapped(elbow.label, WRAP)
    axis.text(side + 0.04 * sign, y - 0.055, name, ha=outer, va="top", fontsize=7, linespacing=1.05)

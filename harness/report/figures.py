"""Metrics and loss over epochs (paper 000, Fig. 4): a row a setting, a column a metric, a line a category."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness.report.variants import label_order

LOSS = "train/loss"
FIGURES = {  # RADL's Fig. 4, and what else is measured at every epoch
    "epochs": {
        "test/image_auroc": "Image AUROC (%)",
        "test/pixel_auroc": "Pixel AUROC (%)",
        "test/aupro": "AUPRO (%)",
        LOSS: "Loss",
    },
    "epochs_more": {
        "test/image_ap": "Image AP (%)",
        "test/pixel_ap": "Pixel AP (%)",
        "test/auspro": "AUsPRO (%)",
    },
}
EPOCH_METRICS = tuple(metric for columns in FIGURES.values() for metric in columns)
WIDTH = 7.16  # inches: two columns of an IEEE page
NARROW = 3.5  # one column of it
ROW_HEIGHT = 1.55
ROWS = 6  # settings that have a row each: as many as fit a page
ALL = "All settings"
LONGEST = 80  # letters of a data set's name in that of a file
STYLES = ("-", "--", ":")  # after each round of the palette's ten colours
SECTION = "Over the epochs"
CAPTION = (
    "Epoch metrics on the test set and training loss; a line is the mean over seeds (and folds, if any), its band "
    f"reaches from the lowest to the highest (no band with one). Of more than {ROWS} settings each has one line, the "
    f"mean "
    "over the categories. Epochs count from 0, as in MLflow."
)
LOOKS: dict[str, Any] = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 8}
LOOKS |= {"xtick.labelsize": 7, "ytick.labelsize": 7, "pdf.fonttype": 42, "axes.linewidth": 0.6}

Lines = dict[str, dict[str, dict[str, list[str]]]]  # setting -> metric -> category -> run ids


class Figure(NamedTuple):
    """A figure on disk.

    Attributes:
        name: of its files, without suffix.
        title: its heading.
        lines: the runs behind what it shows: nested mappings of names (setting, metric, category) to run ids.
        section: of the page.
        caption: what it shows.
        place: data set and category, for the figure of one category; the page opens it from the category's name.
    """

    name: str
    title: str
    lines: Mapping[str, Any]
    section: str = SECTION
    caption: str = CAPTION
    place: tuple[str, str] | None = None


def epoch_curves(runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return what the figures draw: dataset, label, category, metric, epoch, mean, low, high, n, run_ids.

    Of a data set with more than :data:`ROWS` settings one row (:data:`ALL`) is drawn, with a line a setting in place of
    a category: the mean over the categories of each seed or fold.
    """
    columns = ["run_id", "dataset", "label", "category", "unit"]
    points = epochs.merge(runs[columns], on="run_id").dropna(subset="value")
    percent = points["metric"] != LOSS
    points["value"] = points["value"].where(~percent, points["value"] * 100.0)
    many = points.groupby("dataset")["label"].transform("nunique") > ROWS
    few = bands(points[~many], "epoch")
    return pd.concat([few, _by_setting(points[many])], ignore_index=True) if many.any() else few


def _by_setting(points: pd.DataFrame) -> pd.DataFrame:
    place = ["dataset", "label", "metric", "unit", "epoch"]
    means = points.groupby(place, as_index=False).agg(value=("value", "mean"), run_id=("run_id", tuple))
    curves = bands(means.assign(category=means["label"], label=ALL), "epoch")
    curves["run_ids"] = curves["run_ids"].map(lambda of_units: tuple(run_id for ids in of_units for run_id in ids))
    return curves


def bands(points: pd.DataFrame, along: str) -> pd.DataFrame:
    """Return a row a point of every line: dataset, label, metric, category, `along`, mean, low, high, n, run_ids."""
    grouped = points.groupby(["dataset", "label", "metric", "category", along])
    curves = grouped["value"].agg(["mean", "min", "max", "count"])
    curves.columns = pd.Index(["mean", "low", "high", "n"])
    curves["run_ids"] = grouped["run_id"].agg(tuple)
    return curves.reset_index()


def draw(curves: pd.DataFrame, folder: Path) -> Iterator[Figure]:
    """Draw each data set's figures into a folder, as PDF and PNG."""
    for dataset, of_dataset in curves.groupby("dataset"):
        slug = slug_of(str(dataset))
        for prefix, columns in FIGURES.items():
            shown = of_dataset[of_dataset["metric"].isin(columns)]
            if len(shown):
                _draw_dataset(shown, columns, folder / f"{prefix}_{slug}")
                title = str(dataset) if prefix == "epochs" else f"{dataset}: further metrics"
                yield Figure(f"{prefix}_{slug}", title, lines_of(shown))


def slug_of(name: str) -> str:
    """Return a name as part of a file's: as it is, or with a hash of it where letters had to be replaced or cut off."""
    plain = "".join(c if c.isalnum() or c in "-._" else "_" for c in name)[:LONGEST]
    return plain if plain == name else f"{plain}_{sha256(name.encode()).hexdigest()[:6]}"


def lines_of(curves: pd.DataFrame) -> Lines:
    """Return the runs behind each line of a figure."""
    lines: Lines = {}
    for (label, metric, category), points in curves.groupby(["label", "metric", "category"]):
        ids = sorted({run_id for ids in points["run_ids"] for run_id in ids})
        lines.setdefault(str(label), {}).setdefault(str(metric), {})[str(category)] = ids
    return lines


def _draw_dataset(curves: pd.DataFrame, titles: Mapping[str, str], path: Path) -> None:
    plt = pyplot()
    metrics = [metric for metric in titles if metric in set(curves["metric"])]
    labels, categories = label_order(curves["label"].unique()), sorted(curves["category"].unique())
    style = styles(categories)
    with looks():
        figure, axes = plt.subplots(
            len(labels),
            len(metrics),
            figsize=(WIDTH, ROW_HEIGHT * len(labels) + 0.45 + 0.15 * -(-len(categories) // 3)),
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for row, label in enumerate(labels):
            for column, metric in enumerate(metrics):
                panel = curves[(curves["label"] == label) & (curves["metric"] == metric)]
                draw_panel(axes[row][column], panel, "epoch", style)
                if row and metric != LOSS:  # losses of different settings have no scale in common
                    axes[row][column].sharey(axes[0][column])
            axes[row][0].set_ylabel(wrapped(label, 22))
        for column, metric in enumerate(metrics):
            axes[0][column].set_title(titles[metric])
            axes[-1][column].set_xlabel("Epoch")
            axes[-1][column].xaxis.get_major_locator().set_params(integer=True)
        finish(figure, style, path)


def pyplot() -> Any:
    """Return Matplotlib's pyplot, drawing to files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


@contextmanager
def looks() -> Iterator[None]:
    """Draw in the style that all figures of a report share."""
    import seaborn as sns

    with sns.axes_style("whitegrid"), pyplot().rc_context(LOOKS):
        yield


def styles(categories: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return colour and line style of each category."""
    import seaborn as sns

    palette = sns.color_palette("colorblind")
    return {
        category: {"color": palette[i % len(palette)], "linestyle": STYLES[i // len(palette) % len(STYLES)]}
        for i, category in enumerate(categories)
    }


def finish(figure: Any, style: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Add the legend of categories, and write the figure as PDF and PNG."""
    line = pyplot().Line2D
    legend(figure, [line([], [], label=_plain(name), linewidth=1.5, **look) for name, look in style.items()])
    save(figure, path)


def legend(figure: Any, handles: Sequence[Any]) -> None:
    """Add a legend below a figure, in as many columns as its longest text leaves room for."""
    longest = max(len(line) for handle in handles for line in handle.get_label().split("\n"))
    columns = int(figure.get_figwidth() / (0.5 + 0.065 * longest))
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(columns, len(handles))), frameon=False)


def save(figure: Any, path: Path, dpi: int = 200) -> None:
    """Write a figure as PDF and PNG, in bytes that do not depend on when, and close it."""
    if figure.get_layout_engine() is not None:  # laying out takes as long as drawing, and is the same for both files
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    figure.savefig(path.with_name(path.name + ".pdf"), metadata={"CreationDate": None})
    figure.savefig(path.with_name(path.name + ".png"), dpi=dpi)
    pyplot().close(figure)


def draw_panel(axis: Any, panel: pd.DataFrame, x: str, style: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a line a category over the column `x`: columns category, mean, low, high and n."""
    from matplotlib.collections import PolyCollection

    for category, line in panel.groupby("category"):
        look = style[str(category)]
        marker = "." if len(line) == 1 else None
        axis.plot(line[x], line["mean"], linewidth=1.1, marker=marker, **look)
        if line["n"].max() > 1:
            edge = [*zip(line[x], line["low"], strict=True), *zip(line[x][::-1], line["high"][::-1], strict=True)]
            band = PolyCollection([edge], color=look["color"], alpha=0.18, linewidth=0)
            axis.add_collection(band, autolim=False)  # fill_between rescales every axis that shares this one's
            axis.update_datalim(edge)
    axis.tick_params(length=2, pad=2)
    axis.grid(linewidth=0.4)


def wrapped(text: str, width: int) -> str:
    """Return a label in short lines."""
    return "\n".join(textwrap.wrap(_plain(text), width))


def _plain(text: str) -> str:
    """Return text in which Matplotlib sees no formula."""
    return text.replace("$", r"\$")

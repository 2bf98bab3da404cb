"""What settings do: accuracy over the values of one setting, all others equal (paper 002, section 6.2)."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness.report.figures import (
    NARROW,
    WIDTH,
    Figure,
    draw_panel,
    legend,
    looks,
    pyplot,
    save,
    slug_of,
    styles,
    wrapped,
)
from harness.report.measures import ACCURACIES
from harness.report.study import Study
from harness.report.summary import MEAN, Samples, samples_of
from harness.report.variants import UNSET, by_value, label_order

SECTION = "Settings"
METRICS = {"test/image_auroc": "Image AUROC (%)", "test/pixel_auroc": "Pixel AUROC (%)", "test/aupro": "AUPRO (%)"}
MEASURES = {measure.key: measure for measure in ACCURACIES}
SHOTS = "protocol.shots"  # has figures of its own
BRING = ("backbone.name", "preprocess.mode")  # settings whose values bring their own for others (layers, weights, size)
TITLES = {"preprocess.window": "window (pixels)", "preprocess.size": "input size (pixels)"}
NONE = "none"
MANY = 8  # categories; of more, only the mean is drawn
LINES = 10  # in a panel
PANELS = 4  # a row
FACTOR = 20.0  # between the lowest and the highest value; above, the axis is logarithmic
COLUMNS = ["dataset", "setting", "group", "line", "category", "metric", "value", "mean", "low", "high", "n", "run_ids"]


class Sweep(NamedTuple):
    """Variants of one method on one data set that differ in one setting only.

    Attributes:
        dataset: that they were run on.
        setting: in which they differ.
        brings: settings whose values go with those of the setting.
        line: what their line is called: the method, and what tells it from the method's other sweeps of the setting.
        labels: value of the setting -> variant.
        plain: whether the variant without a suffix is among them.
    """

    dataset: str
    setting: str
    brings: tuple[str, ...]
    line: str
    labels: dict[str, str]
    plain: bool


def sweeps(study: Study) -> list[Sweep]:
    """Return every sweep of a setting: two or more variants that are equal in all other settings."""
    found = []
    metrics = [metric for metric in METRICS if metric in study.runs.columns]
    valued = study.runs.dropna(subset=metrics, how="all") if metrics else study.runs.iloc[:0]
    for (dataset, method), runs in valued.groupby(["dataset", "method"]):
        variants = {label: study.settings[label] for label in label_order(runs["label"].unique())}
        for setting in sorted({key for own in variants.values() for key in own} - {SHOTS}):
            found += _of_setting(str(dataset), str(method), setting, variants)
    return found


def _of_setting(dataset: str, method: str, setting: str, variants: Mapping[str, Mapping[str, str]]) -> list[Sweep]:
    brings = _brought(setting, list(variants.values()))
    by_rest: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for label, own in variants.items():
        rest = tuple((key, value) for key, value in sorted(own.items()) if key not in (setting, *brings))
        by_rest.setdefault(rest, {})[own[setting]] = label
    swept = {rest: labels for rest, labels in by_rest.items() if len(labels) > 1}
    common = set.intersection(*map(set, swept)) if swept else set()
    lines = {rest: _named(method, [pair for pair in rest if pair not in common]) for rest in swept}
    return [
        Sweep(dataset, setting, brings, lines[rest], labels, method in labels.values())
        for rest, labels in swept.items()
    ]


def _brought(setting: str, variants: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Return the settings that have one value for each value of a setting which brings others along."""
    if setting not in BRING:
        return ()
    others = sorted({key for own in variants for key in own} - {setting, *BRING, SHOTS})
    values = {own[setting] for own in variants}
    return tuple(
        key
        for key in others
        if len({(own[setting], own[key]) for own in variants}) == len(values)
        and len({own[key] for own in variants}) > 1
    )


def _named(method: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a label of a method and those settings that it has."""
    told = [f"{short(key)}={value}" for key, value in pairs if value_text(key, value) != NONE]
    return f"{method} ({', '.join(told)})" if told else method


def short(setting: str) -> str:
    """Return a setting's name as labels have it."""
    return setting.removesuffix(".name").rpartition(".")[2]


def setting_curves(study: Study) -> pd.DataFrame:
    """Return what the figures of settings draw, a row a point.

    Columns: dataset, setting, group (of lines that share values: one figure), line, category (:data:`MEAN` where the
    data set has more than eight), metric, value (of the setting), mean, low and high over seeds in percent, n, run_ids.
    Categories with one value of the setting are left out. A mean is over the categories that have all values of a line.
    """
    found = sweeps(study)
    groups = _figures(found)
    rows = []
    for sweep in found:
        place = (sweep.dataset, sweep.setting, groups[sweep.dataset, sweep.setting, sweep.line], sweep.line)
        rows += [(*place, *point) for point in _points(sweep, study.runs)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _points(sweep: Sweep, runs: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Yield category, metric, value, mean, low, high, n and run_ids of every point of a sweep."""
    of_dataset = runs[runs["dataset"] == sweep.dataset]
    many = of_dataset["category"].nunique() > MANY
    of_sweep = of_dataset[of_dataset["label"].isin(sweep.labels.values())]
    for metric in METRICS:
        if metric not in of_sweep.columns:
            continue
        valued = of_sweep.dropna(subset=metric)
        values = valued.groupby("category")["label"].transform("nunique")
        valued = valued[values == len(sweep.labels)] if many else valued[values > 1]
        samples = [*samples_of(valued, MEASURES[metric])]
        for one in samples[-1:] if many else (s for s in samples if not s.is_mean):
            for value, label in sweep.labels.items():
                if numbers := _numbers(one, label):
                    yield (MEAN if many else one.category, metric, value, *numbers, one.run_ids[label])


def _numbers(samples: Samples, label: str) -> tuple[float, float, float, int] | None:
    """Return mean, lowest, highest and number of a variant's values."""
    if label in samples.means:  # of categories that have no seed in common
        return samples.means[label], math.nan, math.nan, 0
    if label not in samples.values:
        return None
    values = samples.values[label]
    return float(values.mean()), float(values.min()), float(values.max()), len(values)


def _figures(found: Sequence[Sweep]) -> dict[tuple[str, str, str], int]:
    """Number the figures of a setting: lines that share two values are one figure's, the plainest ten of them."""
    groups: dict[tuple[str, str, str], int] = {}
    members: dict[tuple[str, str], list[list[Sweep]]] = {}
    for sweep in sorted(found, key=lambda s: (not s.plain, -len(s.labels), by_value(s.line))):
        own = members.setdefault((sweep.dataset, sweep.setting), [])
        place = next((g for g in own if len(_values(g) & sweep.labels.keys()) > 1 and len(g) < LINES), None)
        if place is None:
            own.append(place := [])
        place.append(sweep)
        groups[sweep.dataset, sweep.setting, sweep.line] = next(i for i, g in enumerate(own) if g is place)
    return groups


def _values(group: Iterable[Sweep]) -> set[str]:
    return {value for sweep in group for value in sweep.labels}


def position(setting: str, value: str) -> float | None:
    """Return where a value stands among numbers, None for what is none; a size of H×W by the root of its area."""
    try:
        number = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return None
    sides = number if isinstance(number, list | tuple) and setting.startswith("preprocess.") else [number]
    if not sides or any(isinstance(side, bool) or not isinstance(side, int | float) for side in sides):
        return None
    return float(math.prod(sides)) ** (1 / len(sides)) if len(sides) > 1 else float(sides[0])


def is_numeric(setting: str, values: Iterable[str]) -> bool:
    """Whether all values of a setting are numbers or sizes."""
    return all(position(setting, value) is not None for value in values)


def places_of(setting: str, values: Iterable[str]) -> tuple[dict[str, float], bool]:
    """Return where each value stands on the axis, in order, and whether that is logarithmic.

    Values that span a factor above 20 stand on a logarithmic axis, others at equal distances.
    """
    numbers = {value: position(setting, value) for value in values}
    known = [number for number in numbers.values() if number is not None]
    if len(known) < len(numbers):
        ordered = sorted(numbers, key=lambda value: (value != UNSET, by_value(value)))
        return {value: float(i) for i, value in enumerate(ordered)}, False
    ordered = sorted(numbers, key=lambda value: (numbers[value], value))
    if min(known) > 0 and max(known) > FACTOR * min(known):
        return {value: float(numbers[value] or 0.0) for value in ordered}, True
    return {value: float(i) for i, value in enumerate(ordered)}, False


def value_text(setting: str, value: str) -> str:
    """Return a value as the axis has it: `256×256` for a size, `none` for what a variant does not add."""
    if value == UNSET:
        return NONE if setting == "augment" or setting.startswith("protocol.") else UNSET
    if value.startswith("[") and position(setting, value) is not None:
        return "×".join(str(side) for side in ast.literal_eval(value))
    return value


def draw_ablations(study: Study, folder: Path) -> Iterator[Figure]:
    """Draw each setting's figures for each data set: panels of metrics, of categories where methods are compared."""
    curves = setting_curves(study)
    brings = {(s.dataset, s.setting, s.line): s.brings for s in sweeps(study)}
    for (dataset, setting, group), shown in curves.groupby(["dataset", "setting", "group"]):
        metrics = [metric for metric in METRICS if metric in set(shown["metric"])]
        lines = label_order(shown["line"].unique())
        also = sorted({key for line in lines for key in brings[dataset, setting, line]})
        apart = len(lines) > 1 and shown["category"].nunique() > PANELS  # too many panels for one figure
        for chosen in [[metric] for metric in metrics] if apart else [metrics]:
            parts = ["setting", setting.replace(".", "_"), slug_of(str(dataset)), *([str(group + 1)] if group else [])]
            parts += [chosen[0].removeprefix("test/")] if apart else []
            only = set(shown["category"]) - {MEAN} if shown["category"].nunique() == 1 else set()
            place = "/".join([str(dataset), *only])
            title = f"{place}: {short(setting)}" + (f" of {', '.join(lines)}" if len(lines) <= 3 else "")
            title += f": {MEASURES[chosen[0]].title}" if apart else ""
            of_figure = shown[shown["metric"].isin(chosen)]
            _draw_setting(setting, of_figure, folder / "_".join(parts))
            yield Figure("_".join(parts), title, _lines(of_figure), SECTION, _caption(setting, of_figure, also))


def _lines(curves: pd.DataFrame) -> dict[str, Any]:
    lines: dict[str, Any] = {}
    for row in curves.itertuples():
        categories = lines.setdefault(row.line, {}).setdefault(row.metric, {})
        categories.setdefault(row.category, {})[row.value] = list(row.run_ids)
    return lines


def _caption(setting: str, curves: pd.DataFrame, brings: Sequence[str]) -> str:
    places, is_log = places_of(setting, curves["value"].unique())
    numeric = is_numeric(setting, places)
    parts = [f"Accuracy at the last epoch for values of {short(setting)}, all other settings equal."]
    if brings:
        parts.append(f"Its values bring their own {', '.join(map(short, brings))}.")
    if numeric:
        parts.append(f"Values stand {'on a logarithmic axis' if is_log else 'at equal distances'}.")
    shape = ("point", "bar") if not numeric else ("line", "band")
    if MEAN in set(curves["category"]):
        parts.append("Shown is the mean over the categories that have all values.")
    parts.append(
        f"A {shape[0]} is the mean over seeds (or folds), its {shape[1]} reaches from the lowest to the highest (none "
        "with one seed)."
    )
    return " ".join(parts)


class Panel(NamedTuple):
    """One panel: heading, name of its vertical axis (its metric), and points, their series in `category`."""

    title: str
    metric: str
    points: pd.DataFrame


def panels_of(curves: pd.DataFrame) -> tuple[list[Panel], int]:
    """Return the panels of a figure and how many stand in a row.

    Where methods are compared lines are methods and panels categories; else lines are categories, panels metrics.
    """
    metrics = [metric for metric in METRICS if metric in set(curves["metric"])]
    categories = sorted(curves["category"].unique())
    if curves["line"].nunique() == 1:
        return [Panel("", m, curves[curves["metric"] == m]) for m in metrics], len(metrics)
    by_line = curves.assign(category=curves["line"])
    if len(categories) == 1:
        return [Panel("", m, by_line[curves["metric"] == m]) for m in metrics], len(metrics)
    chosen = [(m, c, (curves["metric"] == m) & (curves["category"] == c)) for m in metrics for c in categories]
    return [Panel(c, m, by_line[here]) for m, c, here in chosen], min(PANELS, len(categories))


def _draw_setting(setting: str, curves: pd.DataFrame, path: Path) -> None:
    panels, columns = panels_of(curves)
    places, is_log = places_of(setting, curves["value"].unique())
    numeric = is_numeric(setting, places)
    series = label_order({name for panel in panels for name in panel.points["category"]})
    style = styles(series)
    rows = -(-len(panels) // columns)
    each = 1.5 if numeric else 0.45 + len(places) * (0.18 + 0.07 * len(series))
    share = "row" if panels[0].title else False  # panels of one metric
    grid: dict[str, Any] = {"sharey": share} if numeric else {"sharey": True, "sharex": share}
    with looks():
        size = (WIDTH if columns > 1 else NARROW, each * rows + 0.4)
        figure, axes = pyplot().subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **grid)
        for i, (axis, panel) in enumerate(zip(axes.flat, panels, strict=False)):
            if i < columns or panel.title != panels[i - columns].title:
                axis.set_title(wrapped(panel.title, 28))
            if numeric:
                own = {value: place for value, place in places.items() if value in set(panel.points["value"])}
                own = own if is_log else places_of(setting, own)[0]
                _draw_lines(axis, panel.points, style, own)
                _write_values(axis, [value_text(setting, value) for value in own], own, is_log, size[0] / columns)
                axis.set_xlabel(TITLES.get(setting, short(setting)) if i + columns >= len(panels) else "")
                axis.set_ylabel(METRICS[panel.metric] if i % columns == 0 or not share else "")
            else:
                _draw_dots(axis, panel.points, style, list(places))
                axis.set_yticks(range(len(places)), labels=[wrapped(value_text(setting, v), 26) for v in places])
                axis.set_ylabel(TITLES.get(setting, short(setting)) if i % columns == 0 else "")
                axis.set_xlabel(METRICS[panel.metric])
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_axis_off()
        marks = {"marker": "o", "markersize": 3, "linewidth": 1.1} | ({} if numeric else {"linestyle": "none"})
        legend(figure, [pyplot().Line2D([], [], label=wrapped(name, 44), **(style[name] | marks)) for name in series])
        save(figure, path)


def _draw_lines(
    axis: Any, points: pd.DataFrame, style: Mapping[str, Mapping[str, Any]], places: Mapping[str, float]
) -> None:
    """Draw a line and band a series, with a mark at every value."""
    points = points.assign(place=points["value"].map(places)).sort_values("place")
    draw_panel(axis, points, "place", style)
    for name, line in points.groupby("category"):
        colour = style[str(name)]["color"]
        axis.plot(line["place"], line["mean"], linestyle="none", marker="o", markersize=3, color=colour)


def _write_values(axis: Any, names: Sequence[str], places: Mapping[str, float], is_log: bool, width: float) -> None:
    """Write the values of a setting below the axis, slanted where they would touch."""
    if is_log:
        axis.set_xscale("log")
    crowded = 0.065 * sum(len(name) + 1 for name in names) > 0.75 * width
    look: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axis.set_xticks(list(places.values()), labels=names, minor=False, **look)
    axis.set_xticks([], minor=True)
    axis.margins(x=0.12)


def _draw_dots(axis: Any, points: pd.DataFrame, style: Mapping[str, Mapping[str, Any]], values: Sequence[str]) -> None:
    """Draw a row of dots a value, those of several series beside each other."""
    step = 0.7 / len(style)
    for i, (name, look) in enumerate(style.items()):
        own = points[points["category"] == name]
        y = own["value"].map(values.index) + (i - (len(style) - 1) / 2) * step
        reach = [(own["mean"] - own["low"]).fillna(0.0), (own["high"] - own["mean"]).fillna(0.0)]
        bars = {"linestyle": "none", "marker": "o", "markersize": 3.5, "elinewidth": 0.9, "capsize": 1.5}
        axis.errorbar(own["mean"], y, xerr=reach, color=look["color"], **bars)
    axis.set_ylim(len(values) - 0.5, -0.5)
    axis.tick_params(length=2, pad=2)
    axis.grid(linewidth=0.4)

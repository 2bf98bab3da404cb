"""Accuracy against speed: the points, the front, where labels stand, and the files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.report import tradeoff
from harness.report.collect import collect
from harness.report.figures import pyplot
from harness.report.tradeoff import Box, accuracy_and_speed, draw_tradeoff, pareto, place


@pytest.fixture(scope="module")
def runs(make_store: Callable[[str], Any]) -> pd.DataFrame:
    """Three methods on two categories, one only on one of them, and one on real data with random weights."""
    store = make_store("tradeoff")
    for category, worse in (("a", 0.0), ("b$", 0.1)):
        for method, level, speed in (("patchcore", 0.9, 20.0), ("radl", 0.8, 10.0), ("padim", 0.7, 200.0)):
            for seed in range(2 if method == "patchcore" else 1):
                fast = {"speed/images_per_second": speed + 2 * seed}
                store.add(method, category, seed, level=level - worse + 0.02 * seed, metrics=fast)
    store.add("padim", "a", 0, params={"method.k": "3"}, metrics={"speed/images_per_second": 999.0})
    random = {"dataset": "real", "params": {"dataset.layout": "mvtec"}, "tags": {"weights": "r18:random-0"}}
    store.add("padim", "a", 0, **random)
    store.add("padim", "a", 1, dataset="real")
    store.add("patchcore", "a", 1, dataset="times")
    store.add("patchcore", "a", 1, dataset="times", timing=True)
    return collect(store.uri, "study").runs


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Figures, kept instead of written."""
    figures: list[Any] = []
    monkeypatch.setattr(tradeoff, "save", lambda figure, path: figures.append(figure))
    yield figures
    pyplot().close("all")


def frame(points: dict[str, tuple[float, float]], speed: str = "speed/images_per_second") -> pd.DataFrame:
    """Return runs of one seed and category, a label a point of accuracy and speed."""
    rows = [
        {"run_id": label, "dataset": "set", "label": label, "category": "a", "unit": "0", "fold": "", "device": "cpu"}
        | {"test/image_auroc": accuracy, speed: number}
        for label, (accuracy, number) in points.items()
    ]
    return pd.DataFrame(rows)


def test_points_are_means_over_categories_of_labels_with_both_numbers(runs: pd.DataFrame) -> None:
    points = accuracy_and_speed(runs)
    toy = points[points["dataset"] == "toy"].set_index("label")
    assert toy.index.tolist() == ["padim", "patchcore", "radl"], "a variant without category b is left out"
    assert toy["accuracy"].tolist() == pytest.approx([65.0, 86.0, 75.0])
    assert toy["speed"].tolist() == pytest.approx([200.0, 21.0, 10.0])
    assert toy.loc["patchcore", ["accuracy_std", "speed_std"]].tolist() == pytest.approx([2**0.5, 2**0.5])
    assert np.isnan(toy.loc["radl", "accuracy_std"])
    assert toy["n"].tolist() == [1, 2, 1] and len(toy.loc["patchcore", "run_ids"]) == 4
    assert toy["front"].tolist() == [True, True, False]


def test_unproven_accuracy_is_left_out(runs: pd.DataFrame) -> None:
    real = accuracy_and_speed(runs)
    (ids,) = real.loc[real["dataset"] == "real", "run_ids"]
    proven = runs[(runs["dataset"] == "real") & runs["test/image_auroc"].notna()]
    assert set(proven["run_id"]) <= set(ids)
    assert accuracy_and_speed(frame({"m": (float("nan"), 3.0)})).empty


def test_speeds_that_more_labels_have_are_drawn() -> None:
    both = frame({"m": (0.9, 3.0), "n": (0.8, 4.0)}).assign(**{"timing/latency_median": [0.5, 0.25]})
    assert set(accuracy_and_speed(both)["key"]) == {"speed/images_per_second"}
    both.loc[0, "speed/images_per_second"] = float("nan")
    timed = accuracy_and_speed(both)
    assert set(timed["key"]) == {"timing/latency_median"}
    assert timed["speed"].tolist() == [500.0, 250.0] and timed["front"].tolist() == [True, True]
    assert accuracy_and_speed(both.drop(columns=["speed/images_per_second", "timing/latency_median"])).empty


@pytest.mark.parametrize(
    ("speeds", "accuracies", "more", "front"),
    [
        ([1, 2, 3], [9, 8, 8], True, [True, False, True]),
        ([1, 2, 3], [9, 8, 8], False, [True, False, False]),
        ([1, 1], [9, 9], True, [True, True]),
        ([1], [9], True, [True]),
    ],
)
def test_front(speeds: list[float], accuracies: list[float], more: bool, front: list[bool]) -> None:
    assert pareto(speeds, accuracies, more) == front


def test_labels_stand_apart_from_points_and_borders() -> None:
    anchors, bounds = np.array([[50.0, 50.0], [60.0, 50.0], [95.0, 95.0]]), Box(0, 0, 100, 100)
    dots = [Box(x - 2, y - 2, x + 2, y + 2) for x, y in anchors]
    boxes = place(anchors, [(30.0, 8.0)] * 3, dots, bounds, 1.0)
    assert boxes is not None
    for i, box in enumerate(boxes):
        assert box.within(bounds)
        assert not any(box.overlap(other) for other in [*dots, *boxes[:i], *boxes[i + 1 :]])
        assert box.distance(anchors[i]) == min(map(box.distance, anchors))
    assert place(anchors, [(30.0, 98.0)] * 3, dots, bounds, 1.0) is None


def test_figure_of_a_data_set(runs: pd.DataFrame, kept: list[Any], tmp_path: Path) -> None:
    (figure,) = draw_tradeoff(runs, tmp_path)
    assert (figure.name, figure.section, figure.place) == ("tradeoff_toy", "Accuracy and speed", None)
    assert set(figure.lines) == {"padim", "patchcore", "radl"} and len(figure.lines["patchcore"]) == 4
    assert "images/s" in figure.caption and "here cpu" in figure.caption
    (axis,) = kept[0].axes
    assert axis.get_xscale() == "log" and not kept[0].legends
    assert sorted(text.get_text() for text in axis.texts) == ["padim", "patchcore", "radl"]
    points = [tuple(bars[0].get_xydata()[0]) for bars in axis.containers]
    assert points == [pytest.approx((200.0, 65.0)), pytest.approx((21.0, 86.0)), pytest.approx((10.0, 75.0))]
    step = next(line.get_xydata().tolist() for line in axis.get_lines() if len(line.get_xydata()) == 6)
    assert step[1:5] == [pytest.approx(at) for at in ([200, step[0][1]], [200, 65], [21, 65], [21, 86])]


def test_latency_has_its_front_at_the_left(kept: list[Any], tmp_path: Path) -> None:
    timed = frame({"m": (0.9, 0.5), "n": (0.8, 0.25), "o": (0.7, 0.3)}, "timing/latency_median")
    (figure,) = draw_tradeoff(timed, tmp_path)
    assert "median inference time of an image in ms" in figure.caption and "upper left" in figure.caption
    step = next(line.get_xydata().tolist() for line in kept[0].axes[0].get_lines() if len(line.get_xydata()) == 6)
    assert step[2:5] == [pytest.approx(at) for at in ([250, 80], [500, 80], [500, 90])]


def test_many_or_crowded_labels_have_a_legend(kept: list[Any], tmp_path: Path) -> None:
    many = {f"method_{i:02} $x$": (0.5 + 0.02 * i, 10.0 + i) for i in range(20)}
    crowded = {f"{'long ' * 20}{i}": (0.9, 10.0) for i in range(8)}
    for points in (many, crowded):
        assert len([*draw_tradeoff(frame(points), tmp_path)]) == 1
    assert [len(figure.legends[0].get_texts()) for figure in kept] == [20, 8]
    assert kept[0].legends[0].get_texts()[3].get_text() == r"method_03 \$x\$"
    assert not kept[0].axes[0].texts and not kept[1].axes[0].texts


def test_one_label_is_no_figure(tmp_path: Path) -> None:
    assert list(draw_tradeoff(frame({"m": (0.9, 10.0)}), tmp_path)) == []


def test_files_are_the_same_twice(tmp_path: Path) -> None:
    two = frame({"m": (0.9, 10.0), "n": (0.8, 400.0)})
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        assert len(list(draw_tradeoff(two, tmp_path / folder))) == 1
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert first.keys() == {"tradeoff_set.pdf", "tradeoff_set.png"}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}

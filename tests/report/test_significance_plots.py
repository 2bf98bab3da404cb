"""The matrix of p values and the critical difference diagram: colours, words, lines, and the files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.report import significance_plots
from harness.report.figures import pyplot
from harness.report.significance_plots import (
    bar_rows,
    draw_critical_difference,
    draw_pvalue_matrix,
    hang,
    levels,
    p_text,
    row_label,
)

NAN = float("nan")
P = np.array([[NAN, 0.04, 0.0004], [0.04, NAN, NAN], [0.0004, NAN, NAN]])
DIFFERENCES = np.array([[0.0, 2.0, -3.0], [-2.0, 0.0, -5.0], [3.0, 5.0, 0.0]])
LINES = {"m": ["run"]}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Figures, kept instead of written."""
    figures: list[Any] = []
    monkeypatch.setattr(significance_plots, "save", lambda figure, path: figures.append(figure))
    yield figures
    pyplot().close("all")


def test_levels_say_direction_and_strength() -> None:
    np.testing.assert_array_equal(levels(P, DIFFERENCES), [[NAN, 1, -3], [-1, NAN, NAN], [3, NAN, NAN]])
    p = np.array([[NAN, 0.05, 0.0099], [0.05, NAN, 1.0], [0.0099, 1.0, NAN]])
    np.testing.assert_array_equal(levels(p, DIFFERENCES), [[NAN, 0, -2], [0, NAN, 0], [2, 0, NAN]])


def test_p_values_have_two_digits() -> None:
    values = (1.0, 0.5, 0.0999, 0.043, 0.05, 0.00123, 0.001, 0.00099, 0.0)
    expected = ["1.0", ".50", ".10", ".043", ".050", ".0012", ".0010", "<.001", "<.001"]
    assert [p_text(p) for p in values] == expected


def test_long_labels_are_wrapped_then_shortened() -> None:
    assert row_label("patchcore", 2) == "patchcore"
    assert row_label("padim_autovi (window=[512, 512])", 2) == "padim_autovi\n(window=[512, 512])"
    long = row_label("padim " + "word " * 40, 2)
    assert long.endswith(" …") and long.count("\n") == 1


def test_matrix_of_p_values(kept: list[Any], tmp_path: Path) -> None:
    figure = draw_pvalue_matrix("p", "toy", ["a", "b$", "c"], P, DIFFERENCES, tmp_path, "Welch, Holm.", LINES)
    assert figure[:4] == ("p", "toy", LINES, "Differences")
    assert figure.caption.startswith("Welch, Holm. Blue: the row is better") and "Hatched" in figure.caption
    axis = kept[0].axes[0]
    cells = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axis.texts}
    assert cells == {(0.5, 1.5): ".040", (1.5, 0.5): ".040", (0.5, 2.5): "<.001", (2.5, 0.5): "<.001"}
    assert sorted(patch.get_xy() for patch in axis.patches) == [(1.03, 2.03), (2.03, 1.03)]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", r"b\$", "c"]
    codes = np.ma.filled(axis.collections[0].get_array().astype(float).reshape(3, 3), NAN)
    np.testing.assert_array_equal(codes, levels(P, DIFFERENCES))


def test_lower_may_be_better(kept: list[Any], tmp_path: Path) -> None:
    draw_pvalue_matrix("p", "toy", list("abc"), P, DIFFERENCES, tmp_path, "", {}, higher_is_better=False)
    codes = np.ma.filled(kept[0].axes[0].collections[0].get_array().astype(float).reshape(3, 3), NAN)
    np.testing.assert_array_equal(codes, levels(P, -DIFFERENCES))


def test_twenty_labels_are_numbered_and_legible(kept: list[Any], tmp_path: Path) -> None:
    labels = [f"method_{i} (window=[512, 512])" for i in range(19)] + ["long " * 30]
    p = np.full((20, 20), 0.0123)
    figure = draw_pvalue_matrix("p", "toy", labels, p, np.zeros((20, 20)), tmp_path, "", {})
    axis = kept[0].axes[0]
    assert "Columns are numbered as rows are. 20 is long long" in figure.caption and "Hatched" not in figure.caption
    assert axis.get_xticklabels()[19].get_text() == r"$\mathbf{20}$"
    assert len(axis.texts) == 380 and min(text.get_fontsize() for text in axis.texts) >= 5
    kept[0].draw_without_rendering()
    cell = axis.get_window_extent().width / 20
    assert all(text.get_window_extent().width <= cell for text in axis.texts)
    assert not _overlapping(axis.get_yticklabels())
    assert kept[0].get_figwidth() <= 7.16


def test_one_label(kept: list[Any], tmp_path: Path) -> None:
    draw_pvalue_matrix("p", "toy", ["a"], [[NAN]], [[0.0]], tmp_path, "", {})
    assert not kept[0].axes[0].texts
    figure = draw_critical_difference("cd", "toy", ["a"], [1.0], [], None, tmp_path, "", {})
    assert figure.caption == "Mean ranks."


def test_names_hang_best_first_and_lines_do_not_cross() -> None:
    elbows = hang(["c", "a", "d", "b", "e"], [3.0, 1.5, 4.0, 1.5, 5.0], 0.2)
    left = [(e.label, e.depth) for e in elbows if e.left]
    right = [(e.label, e.depth) for e in elbows if not e.left]
    assert [label for label, _ in left] == ["a", "b", "c"], "ties in the order given"
    assert [label for label, _ in right] == ["e", "d"], "the outermost on top"
    for side in (left, right):
        assert side[0][1] == 0.2 and side == sorted(side, key=lambda elbow: elbow[1])


def test_bars_of_groups_do_not_touch() -> None:
    ranks = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    groups = [("b", "c"), ("a", "b"), ("c", "d"), ("d",)]
    assert bar_rows(ranks, groups) == [(1.0, 2.0, 0), (2.0, 3.0, 1), (3.0, 4.0, 0)]
    assert bar_rows(ranks, []) == []


def test_critical_difference_diagram(kept: list[Any], tmp_path: Path) -> None:
    labels, ranks = ["radl", "padim $x$", "patchcore"], [2.1, 2.6, 1.3]
    arguments = ("cd", "toy", labels, ranks, [("radl", "padim $x$")], 0.8, tmp_path, "Nemenyi.", LINES)
    figure = draw_critical_difference(*arguments)
    assert figure[:4] == ("cd", "toy", LINES, "Differences")
    assert "A thick bar joins" in figure.caption
    axis = kept[0].axes[0]
    words = [text.get_text() for text in axis.texts]
    assert words == ["1", "2", "3", "CD = 0.80", "1.30", "patchcore", "2.10", "radl", "2.60", r"padim \$x\$"]
    (bar,) = [line for line in axis.get_lines() if line.get_linewidth() == 3]
    ends = axis.get_lines()[0].get_xdata()
    inches = (ends[1] - ends[0]) / 2  # of a rank
    assert bar.get_xdata() == pytest.approx([ends[0] + 1.1 * inches - 0.03, ends[0] + 1.6 * inches + 0.03])


def test_no_critical_difference_or_one_longer_than_the_axis(kept: list[Any], tmp_path: Path) -> None:
    figure = draw_critical_difference("cd", "toy", ["a", "b"], [1.0, 2.0], [], None, tmp_path, "", {})
    draw_critical_difference("cd", "toy", ["a", "b"], [1.5, 1.5], [("a", "b")], 1.96, tmp_path, "", {})
    assert "The test separates all methods." in figure.caption
    words = [[text.get_text() for text in one.axes[0].texts] for one in kept]
    assert not any("CD" in word for word in words[0]) and "CD = 1.96 (longer than the axis)" in words[1]


def test_twenty_long_names_do_not_overlap(kept: list[Any], tmp_path: Path) -> None:
    labels = [f"padim_vin (backbone=efficientnet_b5.sw_in12k_ft_in1k, {i})" for i in range(20)]
    ranks = [1 + 0.9 * i for i in range(20)]
    draw_critical_difference("cd", "toy", labels, ranks, [labels[i : i + 4] for i in range(17)], 3, tmp_path, "", {})
    axis = kept[0].axes[0]
    kept[0].draw_without_rendering()
    names = [text for text in axis.texts if "padim" in text.get_text()]
    assert len(names) == 20 and not _overlapping(axis.texts)
    inside = kept[0].bbox
    assert all(inside.x0 <= e.x0 and e.x1 <= inside.x1 and e.y0 >= inside.y0 for e in map(_extent, names))


def test_files_are_the_same_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        draw_pvalue_matrix("p", "toy", list("abc"), P, DIFFERENCES, folder, "", {})
        draw_critical_difference("cd", "toy", list("abc"), [1, 2, 3], [("a", "b")], 1.5, folder, "", {})
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert first.keys() == {"p.pdf", "p.png", "cd.pdf", "cd.png"}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}


def _extent(text: Any) -> Any:
    return text.get_window_extent()


def _overlapping(texts: Any) -> list[tuple[str, str]]:
    boxes = [(text.get_text(), _extent(text)) for text in texts]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[:i] if one.overlaps(other)]

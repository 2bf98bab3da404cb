"""Galleries and worst mistakes of real pictures: what is shown, what is said, and how large the files are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_artifacts import Runs
from test_distributions import texts

from harness.data.records import picture_name
from harness.report import gallery
from harness.report.distributions import threshold
from harness.report.figures import pyplot
from harness.report.gallery import draw_galleries, folded
from harness.runs import artifacts as writer


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that are drawn, kept instead of saved."""
    drawn: list[Any] = []
    monkeypatch.setattr(gallery, "_save", lambda figure, sheet, path: drawn.append(sheet))
    yield drawn
    pyplot().close("all")


@given(st.text(max_size=120))
def test_pictures_are_found_by_the_name_that_runs_give_them(name: str) -> None:
    sample: Any = SimpleNamespace(name=name)
    assert picture_name(name) == writer._slug(sample)


@given(st.text(alphabet="abcde _/,=$", max_size=60), st.integers(3, 12), st.integers(1, 4))
def test_folded_names_fit(text: str, letters: int, most: int) -> None:
    lines = folded(text, letters, most).replace(r"\$", "$").split("\n")
    assert len(lines) <= most
    assert all(len(line.rstrip(" _/,=")) <= letters for line in lines)
    if len(lines) < most:
        assert "".join("".join(lines).split()) == "".join(text.split())


def test_names_break_after_signs() -> None:
    assert folded("patchcore_autovi (mode=window, window=[256, 256])", 13).split("\n") == [
        "patchcore_",
        "autovi (mode=",
        "window,",
        "window=[256,",
        "256])",
    ]
    assert folded("contamination/019", 13) == "contamination/\n019"
    assert folded("a/b/c/d/e/f/g", 3, 2) == "a/b/\nc/…"


def test_a_gallery(runs: Runs, tmp_path: Path, sheets: list[Any]) -> None:
    runs.add("radl", apart=0.2)
    runs.add("padim")
    runs.add("classifier", heatmaps=False)
    artifacts = runs.artifacts
    first, second = draw_galleries(runs.frame, artifacts, tmp_path)
    assert (first.section, second.section) == ("Galleries", "Worst mistakes")
    assert first.place == second.place == ("toy", "plate")
    assert first.lines == {"classifier": ["run002"], "padim": ["run001"], "radl": ["run000"]}
    assert second.lines == {"padim": ["run001"], "radl": ["run000"]}  # without maps there is nothing to see
    assert first.name == "gallery_toy_plate" and second.name == "mistakes_toy_plate"
    said = texts(sheets[0])
    assert said.count("no map") == 6
    rows = ["dent/003", "dent/004", "scratch/005", "good/000", "good/001", "good/002"]
    assert sorted(text for text in said if "/" in text) == sorted(rows)  # of eight: all kinds of defects, and good ones
    assert len(sheets[0].images) == 6 * 3
    heads = ["Image", "classifier", "padim", "radl"]
    assert [text for text in said if text in heads] == heads * 2  # few methods: two images side by side
    scores, at = artifacts.scores("run000"), threshold("run000", artifacts).value
    assert scores is not None
    for row in scores.head(6).itertuples():
        verdict = {(0, 0): "passed", (0, 1): "false alarm", (1, 0): "missed", (1, 1): "found"}
        where = said.index(f"{row.score:.3g}")
        assert said[where + 1] == verdict[row.label, int(row.score >= at)]


def test_worst_mistakes(runs: Runs, tmp_path: Path, sheets: list[Any]) -> None:
    runs.add("radl", apart=0.2, rules=("fpr_5",))
    artifacts = runs.artifacts
    list(draw_galleries(runs.frame, artifacts, tmp_path))
    said = texts(sheets[1])
    scores, chosen = artifacts.scores("run000"), threshold("run000", artifacts)
    assert scores is not None
    worst = {
        label: of["image"].str.slice(5, -4).tolist()[:3]
        for label, of in scores.sort_values("score").groupby("label", sort=True)
    }
    good = scores[scores["label"] == 0].sort_values("score", ascending=False)["image"].str.slice(5, -4).tolist()[:3]
    assert {text for text in said if "/" in text} == {*good, *worst[1]}
    fp, fn = chosen.counts.fp, chosen.counts.fn
    assert f"FPR 5 % on validation\nFalse alarms: {fp} of 12\nMissed: {fn} of 12" in "".join(said)
    assert len(sheets[1].images) == 12


def test_other_test_images_share_no_gallery(runs: Runs, tmp_path: Path, sheets: list[Any]) -> None:
    for label, content in {"a": "1", "b": "2"}.items():
        runs.add(label, content=content)
    found = list(draw_galleries(runs.frame, runs.artifacts, tmp_path))
    assert [list(figure.lines) for figure in found] == [["a"], ["a"], ["b"], ["b"]]
    assert "(test images 2 of 2)" in found[-1].title


def test_broken_pictures_are_left_out(runs: Runs, tmp_path: Path, sheets: list[Any]) -> None:
    for label in ("a", "b"):
        runs.add(label)
    folder = runs.folder / "run000" / "artifacts" / "heatmaps"
    (folder / "subset_dent_003.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 4)).save(folder / "subset_unheard_of.png")
    Image.new("RGB", (8, 4)).save(folder / "else.png")
    artifacts = runs.artifacts
    list(draw_galleries(runs.frame, artifacts, tmp_path))
    assert not any("unheard" in text for text in texts(sheets[0]))
    assert "dent/003" not in texts(sheets[0])  # not all methods have it, and there are others
    (warning,) = artifacts.warnings
    assert warning.startswith("heatmaps/subset_dent_003.png of run run000 (a/plate/0) cannot be used: ")


def test_images_of_one_slug_are_nobodys(runs: Runs, tmp_path: Path, sheets: list[Any]) -> None:
    names = [f"test/{kind}/{i}.png" for kind in ("dent", "good") for i in range(6)]
    runs.add("a", images=[*names, "test/good_0.png"])
    list(draw_galleries(runs.frame, runs.artifacts, tmp_path))
    assert "good/1" in texts(sheets[0]) and "good/0" not in texts(sheets[0])


def test_files_are_small_and_the_same_every_time(runs: Runs, tmp_path: Path) -> None:
    for number in range(2):
        runs.add(f"method_{number} (loss=hce)", size=(256, 128), seed=0)
    rng = np.random.default_rng(0)
    for path in runs.folder.glob("*/artifacts/heatmaps/*.png"):  # noise: no photograph is larger
        Image.fromarray(rng.integers(0, 256, (128, 256, 3), dtype=np.uint8)).save(path, compress_level=0)
    files: list[dict[str, bytes]] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        frame = runs.frame if name == "one" else runs.frame.iloc[::-1]
        found = list(draw_galleries(frame, runs.artifacts, tmp_path / name))
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert set(files[0]) == {f"{figure.name}.{kind}" for figure in found for kind in ("pdf", "png")}
    for name, content in files[0].items():
        assert content.startswith(b"%PDF" if name.endswith("pdf") else b"\x89PNG")
        if name.endswith("png"):
            assert len(content) <= gallery.BYTES
            with Image.open(tmp_path / "one" / name) as picture:
                assert picture.width == pytest.approx(7.16 * gallery.DPI, abs=1)
                assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_pages_of_many_methods(runs: Runs, tmp_path: Path, sheets: list[Any]) -> None:
    for number in range(9):
        runs.add(f"method_{number} (loss=hce)", size=(96, 48), content="same")
    found = list(draw_galleries(runs.frame, runs.artifacts, tmp_path))
    assert [(figure.section, len(figure.lines)) for figure in found] == [
        ("Galleries", 4),
        ("Galleries", 5),
        ("Worst mistakes", 3),
        ("Worst mistakes", 3),
        ("Worst mistakes", 3),
    ]
    assert all(sheet.get_ylim()[1] <= gallery.TALLEST + 0.01 for sheet in sheets)
    assert all(
        picture.get_extent()[0] >= 0 and picture.get_extent()[1] <= 7.16 for of in sheets for picture in of.images
    )


@pytest.mark.parametrize("size", [(200, 20), (20, 200), (2, 1)])
def test_any_shape_of_image(runs: Runs, tmp_path: Path, sheets: list[Any], size: tuple[int, int]) -> None:
    runs.add("a", size=size)
    assert len(list(draw_galleries(runs.frame, runs.artifacts, tmp_path))) == 2
    for picture in (picture for of in sheets for picture in of.images):
        left, right, bottom, top = picture.get_extent()
        assert (right - left) / (top - bottom) == pytest.approx(size[0] / 2 / size[1])


def test_no_pictures_no_figures(runs: Runs, tmp_path: Path) -> None:
    runs.add("a", heatmaps=False)
    assert list(draw_galleries(runs.frame, runs.artifacts, tmp_path)) == []
    assert list(draw_galleries(pd.DataFrame(columns=runs.frame.columns), runs.artifacts, tmp_path)) == []

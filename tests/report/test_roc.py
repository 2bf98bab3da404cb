"""Mean curves of real scores: what is averaged with what, against scikit-learn, and the figures' files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from test_artifacts import Runs, write_artifacts

from harness.report import roc
from harness.report.roc import Names, curves_of, draw_curves, of_several, pages


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


def scores_of(runs: Runs, run_id: str) -> pd.DataFrame:
    frame = pd.read_parquet(runs.folder / run_id / "artifacts" / "scores.parquet")
    return frame[frame["split"] == "test"]


def test_areas_equal_scikit_learn(runs: Runs) -> None:
    ids = [runs.add(label, category, seed) for label in ("b", "a") for category in ("x", "y") for seed in range(3)]
    panels = curves_of(runs.frame, runs.artifacts)["toy"]
    found = [(category, line) for category, lines in panels.items() for line in lines]
    assert [(category, line.label) for category, line in found] == [(c, label) for c in "xy" for label in "ab"]
    for _, line in found:
        tables = [scores_of(runs, run_id) for run_id in line.run_ids]
        expected = np.mean([roc_auc_score(table["label"], table["score"]) for table in tables])
        assert line.roc.area == pytest.approx(expected, abs=1e-12), "the mean curve's area is the mean area"
        assert len(line.run_ids) == 3
    assert sorted(run_id for _, line in found for run_id in line.run_ids) == ids
    line = curves_of(runs.frame, runs.artifacts)["toy"]["x"][0]
    tables = [scores_of(runs, run_id) for run_id in line.run_ids]
    aps = [average_precision_score(table["label"], table["score"]) for table in tables]
    assert line.precision_recall.area == pytest.approx(np.mean(aps), abs=1e-12)


def test_other_test_images_are_never_averaged(runs: Runs) -> None:
    """The protocol tests on the data set's own images, so that one seed with others is a mistake."""
    kept = [runs.add("a", seed=seed) for seed in (0, 2)]
    other = runs.add("a", seed=1, content="other")
    artifacts = runs.artifacts
    (line,) = curves_of(runs.frame, artifacts)["toy"]["plate"]
    assert line.run_ids == kept and not line.drawn
    assert artifacts.warnings == (
        f"1 runs of a / toy / plate have other test images than the rest ({other}): no mean curve counts them.",
    )


def test_other_test_images_are_never_compared(runs: Runs) -> None:
    for label, content in {"a": "1", "b": "2", "c": "1"}.items():
        runs.add(label, content=content)
    panels = curves_of(runs.frame, runs.artifacts)["toy"]
    assert {panel: [line.label for line in lines] for panel, lines in panels.items()} == {
        "plate (test images 1 of 2)": ["a", "c"],
        "plate (test images 2 of 2)": ["b"],
    }


def test_images_that_the_seed_draws_are_averaged_and_told(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roc, "_draw", lambda *args: None)
    images = [[f"test/{kind}/{i}.png" for kind in ("good", "dent") for i in range(seed, seed + 5)] for seed in range(2)]
    for label in ("a", "b"):
        for seed in range(2):
            runs.add(label, seed=seed, fold=str(seed), protocol="kfold", images=images[seed])
    a, b = curves_of(runs.frame, runs.artifacts)["toy"]["plate"]
    assert a.drawn and len(a.run_ids) == len(b.run_ids) == 2
    (figure,) = draw_curves(runs.frame, runs.artifacts, tmp_path)
    assert "drawn by seed or fold" in figure.caption


def test_images_of_one_kind_have_no_curve(runs: Runs) -> None:
    runs.add("a", images=["test/good/0.png", "test/good/1.png"])
    artifacts = runs.artifacts
    assert curves_of(runs.frame, artifacts) == {}
    assert artifacts.warnings == ("Runs whose test images are all good or all anomalous have no curve.",)


def test_files_and_lines(runs: Runs, tmp_path: Path) -> None:
    ids = [runs.add("radl", category, seed) for category in ("50%_<b>$x$", "plate") for seed in range(2)]
    runs.add("padim", "plate", written=False)
    artifacts = runs.artifacts
    (figure,) = draw_curves(runs.frame, artifacts, tmp_path)
    assert (figure.name, figure.title, figure.section) == ("curves_toy", "toy", "ROC and precision-recall")
    assert figure.lines == {"radl": {"50%_<b>$x$": ids[:2], "plate": ids[2:]}}
    assert "drawn by seed" not in figure.caption
    assert len(artifacts.warnings) == 1
    first = [(tmp_path / f"curves_toy.{kind}").read_bytes() for kind in ("pdf", "png")]
    assert first[0].startswith(b"%PDF")
    list(draw_curves(runs.frame, runs.artifacts, tmp_path))
    assert [(tmp_path / f"curves_toy.{kind}").read_bytes() for kind in ("pdf", "png")] == first


def test_many_categories_and_labels_get_several_figures(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roc, "_draw", lambda panels, style, path: drawn.append((list(panels), list(style))))
    drawn: list[tuple[list[str], list[str]]] = []
    place = tmp_path / "same"
    write_artifacts(place, heatmaps=False)
    for number in range(9 + 11):
        runs.add("l00" if number < 9 else f"l{number - 9:02d}", f"c{number}" if number < 9 else "c0", written=False)
    frame = runs.frame.drop_duplicates(["label", "category"]).assign(artifact_uri=place.as_uri())
    figures = list(draw_curves(frame, runs.artifacts.__class__("x", frame), tmp_path))
    assert [figure.title for figure in figures] == ["toy (1 of 3)", "toy (2 of 3)", "toy (3 of 3)"]
    assert [figure.name for figure in figures] == ["curves_toy", "curves_toy-2", "curves_toy-3"]
    assert [panels for panels, _ in drawn] == [["c0", "c1", "c2", "c3"], ["c4", "c5", "c6", "c7", "c8"], ["c0"]]
    assert [labels for _, labels in drawn] == [[f"l{i:02d}" for i in range(6)]] * 2 + [
        [f"l{i:02d}" for i in range(6, 11)]
    ]
    monkeypatch.setattr(roc, "FIGURES", 2)
    artifacts = runs.artifacts.__class__("x", frame)
    assert len(list(draw_curves(frame, artifacts, tmp_path))) == 2
    assert artifacts.warnings[-1] == "ROC and precision-recall: only the first 2 of 3 figures are drawn."


def test_no_runs_no_figures(runs: Runs, tmp_path: Path) -> None:
    runs.add("a", written=False)
    assert list(draw_curves(runs.frame, runs.artifacts, tmp_path)) == []
    assert list(draw_curves(runs.frame.iloc[:0], runs.artifacts, tmp_path)) == []


def test_pages_and_names() -> None:
    assert pages(list("abcdefghi"), 4) == [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]]
    assert pages([1, 2], 4) == [[1, 2]] and pages([], 4) == []
    names = Names()
    assert [names("x", text) for text in ("a_b", "A_b", "a_b")] == ["x_a_b", "x_A_b-2", "x_a_b-3"]
    assert len(names("x", "y" * 999)) < 150
    assert of_several(1, 1) == "" and of_several(2, 3) == " (2 of 3)"


def test_thinned_curves_keep_their_shape() -> None:
    x = np.sort(np.random.default_rng(0).random(20_000))
    curve = roc.MeanCurve(x, x**0.3, x**0.2, x**0.5)
    thin = roc._thinned(curve)
    assert thin.x.size <= 2 * roc.POINTS + 2
    left, right = (np.interp(x + shift / roc.POINTS, thin.x, thin.mean) for shift in (-1, 1))
    assert ((left <= curve.mean) & (curve.mean <= right)).all()

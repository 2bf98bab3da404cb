"""Which run stands for a label, which threshold is drawn, and what the figures say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix
from test_artifacts import Runs

from harness.report import distributions
from harness.report.distributions import cells, draw_distributions, threshold
from harness.report.figures import pyplot


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that are drawn, kept instead of saved."""
    drawn: list[Any] = []
    monkeypatch.setattr(distributions, "save", lambda figure, path: drawn.append(figure))
    yield drawn
    pyplot().close("all")


def test_the_seed_that_most_labels_have(runs: Runs) -> None:
    for label, seeds in {"a": (0, 1, 2), "b": (1, 2), "c": (5, 2, 1), "d": (7,)}.items():
        for seed in seeds:
            runs.add(label, seed=seed)
    (cell,) = cells(runs.frame, runs.artifacts)
    assert cell.unit == "seed 1" and cell.title == "toy / plate, seed 1"
    chosen = runs.frame.set_index("run_id").loc[list(cell.run_ids.values())]
    assert dict(zip(chosen["label"], chosen["seed"], strict=True)) == {"a": 1, "b": 1, "c": 1, "d": 7}
    assert cell.others == {"d": "seed 7"}
    assert cell.called("d") == "d (seed 7)" and cell.called("a") == "a"


def test_runs_without_scores_do_not_count(runs: Runs) -> None:
    runs.add("a", seed=0, written=False)
    runs.add("a", seed=10)
    runs.add("b", seed=2, fold="1", protocol="kfold")
    (cell,) = cells(runs.frame, runs.artifacts)
    assert cell.run_ids == {"a": "run001", "b": "run002"}
    assert cell.unit == "seed 2 / fold 1" and cell.others == {"a": "seed 10"}
    assert cells(runs.frame.iloc[:1], runs.artifacts) == []
    assert cells(runs.frame.iloc[:0], runs.artifacts) == []


def test_other_test_images_are_never_compared(runs: Runs) -> None:
    for label, content in {"a": "1", "b": "2", "c": "1"}.items():
        runs.add(label, content=content)
    first, second = cells(runs.frame, runs.artifacts)
    assert list(first.run_ids) == ["a", "c"] and list(second.run_ids) == ["b"]
    assert first.title == "toy / plate (test images 1 of 2), seed 0"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("f1_test", "f1_validation", "fpr_1", "fpr_5"), "fpr_5"),
        (("f1_test", "f1_validation"), "f1_validation"),
        (("f1_test",), "f1_test"),
        ((), "f1_test"),
    ],
)
def test_thresholds(runs: Runs, rules: tuple[str, ...], expected: str) -> None:
    """The last epoch's; a run that names none gets the best on the test images, which says that it is an oracle."""
    run_id = runs.add("a", rules=rules, apart=0.4)
    artifacts = runs.artifacts
    found = threshold(run_id, artifacts)
    assert found.rule == expected and found.value < 99.0
    scores = artifacts.scores(run_id)
    assert scores is not None
    (tn, fp), (fn, tp) = confusion_matrix(scores["label"], scores["score"] >= found.value)
    assert found.counts == (tp, fp, fn, tn)


def test_one_kind_of_images_has_a_threshold_above_all(runs: Runs) -> None:
    run_id = runs.add("a", images=["test/good/0.png", "test/good/1.png"])
    (runs.folder / run_id / "artifacts" / "thresholds.csv").unlink()
    assert threshold(run_id, runs.artifacts).counts == (0, 0, 0, 2)


def test_what_a_figure_says(runs: Runs, tmp_path: Path, figures: list[Any]) -> None:
    runs.add("radl (tau=0.5, weights=$a$)", rules=("f1_test", "fpr_5"), apart=0.5)
    runs.add("padim", seed=3)
    artifacts = runs.artifacts
    (described,) = draw_distributions(runs.frame, artifacts, tmp_path)
    assert described.place == ("toy", "plate") and described.section == "Score distributions"
    assert described.lines == {"padim": ["run001"], "radl (tau=0.5, weights=$a$)": ["run000"]}
    said = texts(figures[0])
    assert {"padim (seed 3)", r"radl (tau=0.5, weights=\$a\$)"} <= set(said)
    assert {"Threshold: FPR 5 % on validation", "Threshold: best F1 on test (oracle)"} <= set(said)
    counts = threshold("run000", artifacts).counts
    for count, of in ((counts.tp, 12), (counts.fn, 12), (counts.fp, 12), (counts.tn, 12)):
        assert f"{count} ({100 * count / of:.1f} %)" in said
    bars = [patch for axis in figures[0].axes[1:] for patch in axis.patches]
    filled = [bar for bar in bars if bar.get_fill()]
    assert len(filled) == 4 and all(sum(bar.get_data().values) == pytest.approx(100.0) for bar in filled)


def test_strange_scores_are_drawn(runs: Runs, tmp_path: Path) -> None:
    """All the same, far apart, or one kind of images only."""
    for label, values in {"same": 0.25, "zero": 0.0, "far": np.array([1e30, -1e30] * 12), "tiny": 1e-40}.items():
        run_id = runs.add(label)
        path = runs.folder / run_id / "artifacts" / "scores.parquet"
        frame = pd.read_parquet(path).query("split == 'test'")
        frame.assign(score=np.broadcast_to(values, len(frame)).astype(np.float32)).to_parquet(path)
        (path.parent / "thresholds.csv").unlink()
    (figure,) = draw_distributions(runs.frame, runs.artifacts, tmp_path)
    assert (tmp_path / f"{figure.name}.png").stat().st_size > 10_000


def test_the_same_bytes_every_time(runs: Runs, tmp_path: Path) -> None:
    runs.add("a")
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (figure,) = draw_distributions(runs.frame, runs.artifacts, tmp_path / name)
        files.append([(tmp_path / name / f"{figure.name}.{kind}").read_bytes() for kind in ("pdf", "png")])
    assert files[0] == files[1] and files[0][0].startswith(b"%PDF")


def test_many_labels_get_several_figures_and_many_categories_none(
    runs: Runs, tmp_path: Path, figures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        runs.add(f"l{number}", "a", content="same")
    for category in ("b", "c", "d"):
        runs.add("l0", category)
    monkeypatch.setattr(distributions, "FIGURES", 3)
    artifacts = runs.artifacts
    found = list(draw_distributions(runs.frame, artifacts, tmp_path))
    assert [figure.title for figure in found] == [
        "toy / a (1 of 2), seed 0",
        "toy / a (2 of 2), seed 0",
        "toy / b, seed 0",
    ]
    assert [len(figure.lines) for figure in found] == [4, 5, 1] and len({figure.name for figure in found}) == 3
    assert artifacts.warnings == (
        "Score distributions: of 4 categories only the first 2 have figures; a report of fewer runs (experiment=…) "
        "shows the others.",
    )

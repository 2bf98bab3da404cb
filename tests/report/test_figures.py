"""The figures' numbers, and the files they are drawn into."""

from pathlib import Path

import pandas as pd
import pytest

from harness.report.figures import EPOCH_METRICS, FIGURES, draw, epoch_curves


@pytest.fixture
def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = pd.DataFrame(
        [(f"{c}{s}", "toy/a$b$", "radl", c, s) for c in (f"cat_{i}" for i in range(12)) for s in range(3)],
        columns=["run_id", "dataset", "label", "category", "seed"],
    )
    rows = [
        (run_id, metric, epoch, 0.5 + epoch / 100 + int(run_id[-1]) / 100)
        for run_id in runs["run_id"]
        for metric in EPOCH_METRICS
        for epoch in range(4)
    ]
    return runs, pd.DataFrame(rows, columns=["run_id", "metric", "epoch", "value"])


def test_curves_are_mean_and_range_over_seeds(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    curves = epoch_curves(*frames)
    one = curves[(curves["category"] == "cat_3") & (curves["epoch"] == 2)].set_index("metric")
    assert one.loc["test/aupro", ["mean", "low", "high"]].tolist() == pytest.approx([53.0, 52.0, 54.0])
    assert one.loc["train/loss", ["mean", "low", "high"]].tolist() == pytest.approx([0.53, 0.52, 0.54])
    assert one.loc["train/loss", "n"] == 3


def test_files_and_lines(frames: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    figure, more = draw(epoch_curves(*frames), tmp_path)
    names = ("epochs_toy_a_b_", "epochs_more_toy_a_b_")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("pdf", "png")}
    assert (tmp_path / f"{figure.name}.pdf").read_bytes().startswith(b"%PDF")
    assert set(figure.lines["radl"]) == set(FIGURES["epochs"])
    assert set(more.lines["radl"]) == set(FIGURES["epochs_more"])
    assert figure.lines["radl"]["test/aupro"]["cat_3"] == ["cat_30", "cat_31", "cat_32"]


def test_nothing_trained_is_no_figure(tmp_path: Path) -> None:
    runs = pd.DataFrame(columns=["run_id", "dataset", "label", "category", "seed"])
    epochs = pd.DataFrame(columns=["run_id", "metric", "epoch", "value"])
    assert list(draw(epoch_curves(runs, epochs), tmp_path)) == []

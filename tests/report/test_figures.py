"""The figures' numbers, and the files they are drawn into."""

from pathlib import Path

import pandas as pd
import pytest

from harness.report.figures import ALL, EPOCH_METRICS, FIGURES, ROWS, draw, epoch_curves, slug_of


@pytest.fixture
def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = pd.DataFrame(
        [(f"{c}{s}", "toy/a$b$", "radl", c, s) for c in (f"cat_{i}" for i in range(12)) for s in range(3)],
        columns=["run_id", "dataset", "label", "category", "seed"],
    )
    runs["unit"] = runs["seed"].astype(str)
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
    names = (f"epochs_{slug_of('toy/a$b$')}", f"epochs_more_{slug_of('toy/a$b$')}")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("pdf", "png")}
    assert (tmp_path / f"{figure.name}.pdf").read_bytes().startswith(b"%PDF")
    assert set(figure.lines["radl"]) == set(FIGURES["epochs"])
    assert set(more.lines["radl"]) == set(FIGURES["epochs_more"])
    assert figure.lines["radl"]["test/aupro"]["cat_3"] == ["cat_30", "cat_31", "cat_32"]


def test_of_many_settings_each_is_one_line_the_mean_over_categories(
    frames: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    runs, epochs = frames
    several = [runs.assign(label=f"m{i}", run_id=f"{i}-" + runs["run_id"]) for i in range(ROWS + 1)]
    points = [
        epochs.assign(run_id=f"{i}-" + epochs["run_id"], value=epochs["value"] + i / 100) for i in range(ROWS + 1)
    ]
    curves = epoch_curves(pd.concat(several), pd.concat(points))
    assert set(curves["label"]) == {ALL} and set(curves["category"]) == {f"m{i}" for i in range(ROWS + 1)}
    one = curves[(curves["category"] == "m2") & (curves["epoch"] == 2)].set_index("metric")
    assert one.loc["test/aupro", ["mean", "low", "high"]].tolist() == pytest.approx([55.0, 54.0, 56.0])
    assert one.loc["test/aupro", "n"] == 3 and len(one.loc["test/aupro", "run_ids"]) == 36
    figure, _ = draw(curves, tmp_path)
    assert set(figure.lines) == {ALL}


def test_nothing_trained_is_no_figure(tmp_path: Path) -> None:
    runs = pd.DataFrame(columns=["run_id", "dataset", "label", "category", "seed", "unit"])
    epochs = pd.DataFrame(columns=["run_id", "metric", "epoch", "value"])
    assert list(draw(epoch_curves(runs, epochs), tmp_path)) == []


def test_names_of_files_are_short_and_each_their_own() -> None:
    names = ["my set", "my_set", "my/set", "x" * 300, "x" * 299, "toy", "50%_<b>"]
    slugs = [slug_of(name) for name in names]
    assert len(set(slugs)) == len(names) and slugs[1] == "my_set" and slugs[5] == "toy"
    assert all(len(slug) < 100 and all(c.isalnum() or c in "-._" for c in slug) for slug in slugs)

"""What stands on the runs' own files: settings on the same images, and what the images were."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import runs_of
from sklearn.metrics import roc_auc_score

from harness.metrics import image_auroc
from harness.report.artifacts import Artifacts
from harness.report.data_tables import data_tables
from harness.report.kinds import kind_tables
from harness.report.same_images import same_image_tables
from harness.stats import delong, hierarchical_bootstrap

IMAGES = 40
LABELS = np.array([0] * 20 + [1] * 20)


def write_run(folder: Path, scores: np.ndarray, names: list[str], rng: np.random.Generator, train: int) -> None:
    folder.mkdir(parents=True)
    defect = ["good" if label == 0 else ("scratch" if i % 2 else "dent") for i, label in enumerate(LABELS)]
    frame = pd.DataFrame({"image": names, "label": LABELS.astype(np.int8), "defect": defect, "split": "test"})
    frame = frame.assign(selection="last", score=scores.astype(np.float32))
    frame.iloc[rng.permutation(IMAGES)].to_parquet(folder / "scores.parquet", index=False)  # order means nothing
    split = pd.DataFrame(
        {"image": names, "label": LABELS, "defect": defect, "part": "test", "group": "", "sha256": names}
    )
    rows = [(f"train/{i}", 0, "good", "train", "", f"t{i}") for i in range(train)]
    rows += [("both", 0, "good", "train+validation", "", "b"), ("left", 1, "dent", "unused", "", "u")]
    pd.concat([split, pd.DataFrame(rows, columns=split.columns)]).to_csv(folder / "split.csv", index=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two settings on the same images in three seeds; a third on other images."""
    root = tmp_path_factory.mktemp("artifacts")
    rng = np.random.default_rng(11)
    same, other = [f"test/{i}.png" for i in range(IMAGES)], [f"test/other{i}.png" for i in range(IMAGES)]
    rows = []
    for label, shift, names in (("good", 2.0, same), ("poor", 0.5, same), ("apart", 2.0, other)):
        for seed in range(3):
            scores = rng.normal(0, 1, IMAGES) + shift * LABELS
            folder = root / f"{label}{seed}"
            write_run(folder, scores, names, rng, train=5 + (label == "poor"))
            rows.append((label, seed, image_auroc(LABELS, scores), str(folder)))
    found = runs_of(
        {(label, "a"): [a for name, _, a, _ in rows if name == label] for label in ("good", "poor", "apart")}
    )
    return found.assign(artifact_uri=[folder for *_, folder in rows], name=found["run_id"])


def scores_of(runs: pd.DataFrame, label: str) -> np.ndarray:
    folders = runs.loc[runs["label"] == label, "artifact_uri"]
    return np.stack([pd.read_parquet(Path(f) / "scores.parquet").sort_values("image")["score"] for f in folders])


def test_pairs_on_the_same_images(runs: pd.DataFrame) -> None:
    (table,) = same_image_tables(runs, Artifacts("", runs))
    assert [row.more[0] for row in table.rows] == ["good − poor"], "other images are never compared"
    row = table.numbers.iloc[0]
    truth = pd.read_parquet(Path(runs["artifact_uri"][0]) / "scores.parquet").sort_values("image")["label"].to_numpy()
    one, other = scores_of(runs, "good"), scores_of(runs, "poor")
    expected = hierarchical_bootstrap(truth, one, other, resamples=2000)
    assert row["mean"] == pytest.approx(100 * expected.difference)
    assert (row["low"], row["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert np.isnan(row["pvalue"]) and "below 5 seeds there is no p" in table.caption
    tests = [delong(truth, a, b).pvalue for a, b in zip(one, other, strict=True)]
    assert row["n"] == 3 and row["delong_separated"] == sum(p < 0.05 for p in tests)
    assert (row["delong_lowest"], row["delong_highest"]) == pytest.approx((min(tests), max(tests)))
    assert len(row["run_ids"]) == 6


def test_kinds_of_defects(runs: pd.DataFrame) -> None:
    (table,) = kind_tables(runs, Artifacts("", runs), ["good", "poor", "apart"])
    assert table.columns == ("good", "poor", "apart")
    assert [(row.label, row.more) for row in table.rows] == [("a", ("dent (n = 10)",)), ("a", ("scratch (n = 10)",))]
    expected = []
    for folder in runs.loc[runs["label"] == "poor", "artifact_uri"]:
        scores = pd.read_parquet(Path(folder) / "scores.parquet")
        kept = scores[scores["defect"].isin(["good", "dent"])]
        expected.append(100 * roc_auc_score(kept["label"], kept["score"]))
    number = table.numbers[(table.numbers["label"] == "poor") & (table.numbers["kind"] == "dent")].iloc[0]
    assert number["mean"] == pytest.approx(np.mean(expected)) and number["std"] == pytest.approx(
        np.std(expected, ddof=1)
    )
    assert (
        kind_tables(runs.assign(artifact_uri="/nowhere"), Artifacts("", runs.assign(artifact_uri="/nowhere")), []) == []
    )


def test_without_files_there_is_no_table(runs: pd.DataFrame) -> None:
    nowhere = runs.assign(artifact_uri="/nowhere")
    assert same_image_tables(nowhere, Artifacts("", nowhere)) == []
    assert data_tables(nowhere, Artifacts("", nowhere)) == []


def test_images_by_what_they_were_for(runs: pd.DataFrame) -> None:
    images, defects = data_tables(runs, Artifacts("", runs))
    (row,) = images.rows
    assert images.columns == ("Train", "Validation good", "Test good", "Test defective", "All", "Kinds of defects")
    assert [cell.mean for cell in row.cells if cell] == ["7", "1", "20", "20", "47", "2"], "the run that trains on most"
    assert [(row.label, row.more, [cell.mean for cell in row.cells if cell]) for row in defects.rows] == [
        ("a", ("dent",), ["0", "0", "10"]),
        ("a", ("scratch",), ["0", "0", "10"]),
    ]
    assert set(images.numbers["run_ids"]) == {("poor-a-0",)}

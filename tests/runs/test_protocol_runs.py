"""Runs under each protocol: what they record image by image, what they choose, and what makes them another run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from harness.data.readers import read_category
from harness.identity import identify
from harness.runs.execute import execute
from harness.runs.outcome import Outcome
from harness.schema import DatasetConfig, compose

FOLDS = ["protocol=imbalance", "protocol.folds=3", "protocol.fold=2", "protocol.defects=0.5", "category=granite_tile"]
CASES = {
    "one_class": ["category=granite_tile", "protocol.validation=0.2"],
    "few_shot": ["protocol=few_shot", "protocol.shots=4", "category=granite_tile"],
    "validated_synthetic": ["protocol=validated_synthetic"],  # bolted_plate: masks whose values mean defects
    "validated": [
        "protocol=validated",
        "dataset=toy_labels",
        "dataset.select={camera: mobile}",
        "dataset.rotation=rotation",
    ],
    "supervised": ["protocol=supervised", "method=padim", "protocol.group='^0*(\\d+)'", "category=conveyor_rail"],
    "imbalance": FOLDS,
}


class Ran(NamedTuple):
    config: DictConfig
    outcome: Outcome
    tags: dict[str, str]
    artifacts: Path

    def table(self, name: str) -> pd.DataFrame:
        path = self.artifacts / name
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("protocols")


def configure(place: Path, toy_root: Path, *overrides: str) -> DictConfig:
    shared = [
        f"tracking.directory={place}/runs",
        f"dataset.root={toy_root}",
        "preprocess.size=32",
        "trainer.max_epochs=3",
    ]
    return compose([*shared, "trainer.eval_batch_size=16", *overrides])


@pytest.fixture(scope="module", params=CASES)
def ran(request: pytest.FixtureRequest, place: Path, toy_root: Path) -> Ran:
    config = configure(place, toy_root, *CASES[request.param])
    outcome = execute(config)
    assert outcome.status == "finished", outcome.reason
    run = MlflowClient(config.tracking.uri).get_run(outcome.run_id)
    return Ran(config, outcome, run.data.tags, place / "runs/artifacts/adhoc" / outcome.run_id / "artifacts")


def test_the_split_is_recorded_image_by_image(ran: Ran) -> None:
    split, scores = ran.table("split.csv"), ran.table("scores.parquet")
    category = identify(ran.config).category
    assert split["image"].is_unique
    assert set(split["image"]) >= {sample.name for sample in category.samples}
    parts = {part: set(rows["image"]) for part, rows in split.groupby("part")}
    assert set(parts) <= {"train", "validation", "test", "unused"}
    assert parts["test"] == set(scores.query("split == 'test'")["image"])
    assert parts.get("validation", set()) == set(scores.query("split == 'validation'")["image"])
    trained = split[split["part"] == "train"]
    assert len(trained) and not trained["label"].any()  # RADL and PaDiM learn from good images alone
    assert split["sha256"].is_unique
    if ran.config.protocol.name == "few_shot":
        assert len(trained) == 4 and len(parts["unused"]) == 36
    if ran.config.protocol.name == "imbalance":
        assert ran.tags["harness.fold"] == "2"
        assert 2 <= split.query("part == 'test'")["label"].sum() <= 3  # a third of 7, half of the 16 that there are
    if ran.config.protocol.group:
        assert split.groupby("group")["part"].agg(lambda of: len(set(of) - {"unused"})).max() == 1


def test_thresholds_are_what_their_rules_say(ran: Ran) -> None:
    """Recomputed from the scores of the run with scikit-learn."""
    scores = ran.table("scores.parquet")
    test, validation = (scores[scores["split"] == part] for part in ("test", "validation"))
    table = ran.table("thresholds.csv")
    last = table[table["selection"] == "last"].set_index("rule")
    normal = validation.loc[validation["label"] == 0, "score"].to_numpy(dtype=np.float64)
    expected = {"f1_test"}
    if len(normal):
        expected |= {"fpr_1", "fpr_5", "fpr_10"}
        for percent in (1, 5, 10):
            assert (normal >= last.loc[f"fpr_{percent}", "value"]).mean() <= percent / 100
    if validation["label"].any():
        expected.add("f1_validation")
        found = f1_score(validation["label"], validation["score"].astype(float) >= last.loc["f1_validation", "value"])
        assert found == max(f1_score(validation["label"], validation["score"] >= t) for t in validation["score"])
    assert set(last.index) == expected
    for rule, row in last.iterrows():
        alarm = test["score"].astype(float) >= row["value"]
        tn, fp, fn, tp = confusion_matrix(test["label"], alarm).ravel()
        assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (tp, fp, fn, tn)
        assert (row["fpr"], row["fnr"]) == pytest.approx((fp / (fp + tn), fn / (fn + tp)))
        for what in ("value", "fpr", "fnr", "tp", "tn"):
            assert ran.outcome.metrics[f"threshold/{rule}/{what}"] == pytest.approx(row[what], rel=1e-9)


def test_validation_chooses_the_epoch_and_the_test_set_only_what_is_called_an_oracle(ran: Ran) -> None:
    metrics, scores = ran.outcome.metrics, ran.table("scores.parquet")
    validation = scores[scores["split"] == "validation"]
    client = MlflowClient(ran.config.tracking.uri)
    history = {
        name: [point.value for point in client.get_metric_history(ran.outcome.run_id, name)]
        for name in ("test/image_auroc", "val/image_auroc")
    }
    assert metrics["oracle/epoch"] == int(np.argmax(history["test/image_auroc"]))
    both = validation["label"].nunique() == 2
    assert ("validation/image_auroc" in metrics) == both
    if both:
        assert metrics["val/image_auroc"] == pytest.approx(roc_auc_score(validation["label"], validation["score"]))
        best = int(np.argmax(history["val/image_auroc"]))
        assert metrics["validation/epoch"] == best
        assert metrics["validation/image_auroc"] == history["test/image_auroc"][best]
        assert set(ran.table("thresholds.csv")["selection"]) == {"last", "oracle", "validation"}


def test_synthetic_defects_validate_and_the_data_sets_own_images_test(place: Path, toy_root: Path) -> None:
    config = configure(place, toy_root, *CASES["validated_synthetic"])
    outcome = execute(config)  # finished by now, or finishes here
    scores = pd.read_parquet(place / "runs/artifacts/adhoc" / outcome.run_id / "artifacts/scores.parquet")
    category = read_category(DatasetConfig("toy", root=str(toy_root)), "bolted_plate")
    assert set(scores.query("split == 'test'")["image"]) == {sample.name for sample in category.test}
    validation = scores.query("split == 'validation'")
    assert validation["label"].value_counts().to_dict() == {0: 6, 1: 6}
    assert set(validation.query("label == 1")["defect"]) == {
        "synthetic_cutpaste", "synthetic_scar", "synthetic_blob",
    }  # fmt: skip
    assert {"val/pixel_auroc", "val/aupro", "val/auspro"} <= set(outcome.metrics)


def test_methods_share_the_images_that_a_seed_draws(place: Path, toy_root: Path) -> None:
    from harness.runs.data import draw

    drawn = [
        draw(config, identify(config))
        for config in (
            configure(place, toy_root, *CASES["validated_synthetic"], f"method={method}")
            for method in ("radl", "padim")
        )
    ]
    assert drawn[0] == drawn[1]


def test_a_window_larger_than_an_image_is_refused_before_anything_is_tracked(place: Path, toy_root: Path) -> None:
    config = configure(place, toy_root, "preprocess=window", "preprocess.window=[145,100]", "method=padim")
    outcome = execute(config)
    assert (outcome.status, outcome.lacks_pixels) == ("failed", True)
    assert "preprocess.window=[145,100] (width, height) does not fit an image of 144×144" in outcome.reason
    client = MlflowClient(config.tracking.uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    assert not client.search_runs(experiments, f"tags.`harness.run_key` = '{identify(config).key}'")


def test_columns_of_metadata_are_part_of_a_run_where_they_decide_its_split(tmp_path: Path) -> None:
    from harness.data.toy import generate

    root = tmp_path / "toy"
    table = generate(root) / "vin_label/metadata.csv"
    base = ["dataset=toy_labels", f"dataset.root={root}", "protocol=supervised", "method=padim"]
    ordered, plain = compose([*base, "protocol.order=shot"]), compose(base)
    before = identify(ordered).key, identify(plain).key
    rows = table.read_text().splitlines()
    table.write_text(
        "\n".join([rows[0], *(row[: row.rfind(",")] + f",{i}" for i, row in enumerate(rows[:0:-1]))]) + "\n"
    )
    from harness.identity import _read

    _read.cache_clear()
    assert identify(plain).key == before[1]
    assert identify(ordered).key != before[0]

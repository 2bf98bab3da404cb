"""One run in this process: determinism, failures that name their remedy, and agreement with plain anomalib."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_param_name
from omegaconf import DictConfig, OmegaConf

from harness.data.records import Category
from harness.identity import Identity, identify
from harness.runs.execute import _params, execute, open_store
from harness.runs.outcome import Outcome
from harness.schema import CONF_DIR, compose

SMALL = ["preprocess.size=64", "trainer.max_epochs=2", "metrics.heatmaps=0"]


def configure(folder: Path, toy_root: Path, *overrides: str) -> DictConfig:
    place = [f"tracking.directory={folder}/runs", f"dataset.root={toy_root}"]
    return compose([*SMALL, *place, *overrides])


def numbers(outcome: Outcome) -> dict[str, float]:
    assert outcome.status == "finished", outcome.reason
    measured = ("time/", "speed/", "memory/")
    return {name: value for name, value in outcome.metrics.items() if not name.startswith(measured)}


@pytest.mark.parametrize("method", ["radl", "simplenet", "patchcore", "padim"])
def test_the_same_run_twice_gives_identical_numbers(method: str, tmp_path: Path, toy_root: Path) -> None:
    small = ["method.feature_dim=64", "method.hidden=32"] if method == "simplenet" else []
    runs = [execute(configure(tmp_path / name, toy_root, f"method={method}", *small)) for name in ("a", "b")]
    assert numbers(runs[0]) == numbers(runs[1])


def test_seeds_differ_and_zero_is_one(tmp_path: Path, toy_root: Path) -> None:
    found = [numbers(execute(configure(tmp_path, toy_root, f"seed={seed}"))) for seed in range(3)]
    losses = {metrics["train/loss"] for metrics in found}
    assert len(losses) == 3


def test_a_run_that_diverges_fails_with_a_remedy_and_keeps_its_epochs(tmp_path: Path, toy_root: Path) -> None:
    config = configure(tmp_path, toy_root, "method.learning_rate=1e30", "method.loss=truncated_l1")
    outcome = execute(config)
    assert outcome.status == "failed"
    assert "diverged" in outcome.reason
    assert "learning rate" in outcome.reason
    client = MlflowClient(config.tracking.uri)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "FAILED"
    assert "harness.finished" not in run.data.tags


@pytest.mark.parametrize(
    ("override", "culprits"),
    [
        ("category=nope", ("nope", "bolted_plate")),
        ("category=null", ("category=NAME",)),
        ("backbone.weights=hubb", ("hubb", "hub", "random")),
        ("backbone.name=resnet0", ("resnet0", "timm")),
        ("method.model=harness.models.radl.Nope", ("Nope",)),
        ("method.layers=[layer2,layer9]", ("layer9",)),
        ("+method.taau=1", ("taau", "tau")),
        ("method.loss=l2", ("l2", "hce")),
        ("tracking.uri=sqlite:////proc/all.db", ("/proc/all.db", "tracking.uri")),
        ("tracking.uri=http://me:secret@127.0.0.1:9", ("***@127.0.0.1:9", "tracking.uri")),
        ("tracking.uri=ftp://nowhere", ("ftp", "tracking.uri")),
    ],
)
def test_a_mistake_fails_with_one_sentence(
    override: str, culprits: tuple[str, ...], tmp_path: Path, toy_root: Path
) -> None:
    outcome = execute(configure(tmp_path, toy_root, override))
    assert outcome.status == "failed"
    assert all(culprit in outcome.reason for culprit in culprits), outcome.reason
    assert "\n" not in outcome.reason
    assert "secret" not in outcome.reason


def test_a_broken_category_is_refused_before_training_with_every_problem(tmp_path: Path, toy_root: Path) -> None:
    import shutil

    root = tmp_path / "broken"
    source = next(toy_root.glob("*/granite_tile"))
    shutil.copytree(source, root / "granite_tile")
    files = sorted((root / "granite_tile" / "test" / "good").iterdir())
    files[0].write_bytes(b"no image")
    shutil.copy(files[1], root / "granite_tile" / "train" / "good" / "copy.png")
    outcome = execute(
        configure(tmp_path, toy_root, "dataset=folder", f"dataset.root={root}", "category=granite_tile", "backbone=toy")
    )
    assert outcome.status == "failed"
    assert files[0].name in outcome.reason
    assert "copy.png" in outcome.reason


def test_a_run_that_another_process_works_on_is_left_alone(tmp_path: Path, toy_root: Path) -> None:
    config = configure(tmp_path, toy_root)
    store = open_store(config.tracking.uri, config.tracking.directory)
    with store.claim(identify(config).key):
        assert execute(config).status == "busy"
    assert execute(config).status == "finished"
    assert execute(config).status == "skipped"


def test_a_dead_run_is_closed_and_run_again(tmp_path: Path, toy_root: Path) -> None:
    config = configure(tmp_path, toy_root)
    store = open_store(config.tracking.uri, config.tracking.directory)
    dead = store.start("adhoc", "dead", {}, {"harness.run_key": identify(config).key})
    assert execute(config).status == "finished"
    assert MlflowClient(config.tracking.uri).get_run(dead.run_id).info.status == "KILLED"


def test_padim_scores_as_in_plain_anomalib(tmp_path: Path, toy_root: Path) -> None:
    """All features kept, PaDiM draws nothing: the harness and anomalib's own Engine must agree image by image."""
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import Padim

    from harness.models.backbones import create_backbone

    overrides = ["method=padim", "method.n_features=448", "category=granite_tile", "preprocess=resize"]
    config = configure(tmp_path, toy_root, *overrides)
    outcome = execute(config)
    found = next((tmp_path / "runs" / "artifacts" / "adhoc" / outcome.run_id).rglob("scores.parquet"))
    ours = pd.read_parquet(found).set_index("image")["score"]

    root = next(toy_root.glob("*/granite_tile"))
    defects = sorted(path.name for path in (root / "test").iterdir() if path.name != "good")
    data = Folder(
        name="toy", root=root, normal_dir="train/good", normal_test_dir="test/good",
        abnormal_dir=[f"test/{name}" for name in defects], val_split_mode="same_as_test", num_workers=0,
    )  # fmt: skip
    model = Padim(
        backbone=create_backbone(config.backbone), layers=["layer1", "layer2", "layer3"], n_features=448,
        pre_processor=Padim.configure_pre_processor((64, 64)), post_processor=False, evaluator=False, visualizer=False,
    )  # fmt: skip
    engine = Engine(default_root_dir=tmp_path / "anomalib", accelerator="cpu", logger=False)
    engine.fit(model=model, datamodule=data)
    theirs = {}
    for batch in engine.predict(model=model, datamodule=data):
        for path, score in zip(batch.image_path, batch.pred_score, strict=True):
            theirs[Path(path).relative_to(root).as_posix()] = float(score)
    assert set(theirs) == set(ours.index)
    np.testing.assert_allclose([theirs[name] for name in ours.index], ours.to_numpy(), rtol=2e-4)


@pytest.mark.parametrize("dataset", sorted(path.stem for path in (CONF_DIR / "dataset").glob("*.yaml")))
def test_parameters_have_names_that_mlflow_takes(dataset: str) -> None:
    """Traits are words of a person, with commas."""
    config = compose([f"dataset={dataset}", "category=x"])
    params = _params(config, Identity(Category(dataset, "x", Path(), ()), "print", "weights", "key"))
    for name in params:
        _validate_param_name(name)
    traits = config.dataset.traits
    assert json.loads(params.get("dataset.traits", "null")) == (
        None if traits is None else OmegaConf.to_container(traits)
    )

"""Runs with stored features: the same numbers as without, and never where they would be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from anomalib.models.components import TimmFeatureExtractor
from commands import start_command
from mlflow import MlflowClient
from mlflow.entities import Run
from omegaconf import DictConfig

from harness.features import attach as attaching
from harness.features.policy import find_frozen, may_store
from harness.features.store import DiskShelf, MemoryShelf
from harness.identity import identify
from harness.models.adapter import build_model
from harness.runs.execute import execute
from harness.runs.tracking import Store
from harness.schema import CONF_DIR, compose

SMALL = ["preprocess.size=64", "metrics.heatmaps=0"]
CHEAP = {
    "simplenet": ["method.feature_dim=64", "method.hidden=32", "method.passes=2"],
    "radl": ["method.hidden=64"],
    "cflow": ["method.layers=[layer3]", "method.coupling_blocks=2"],
}
METHODS = {
    path.stem: [f"method={path.stem}", *CHEAP.get(path.stem, [])]
    for path in sorted((CONF_DIR / "method").glob("*.yaml"))
    if "\nfrozen: " in path.read_text()  # not the variants of another
}

EMPTY = Path()  # set by a fixture


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take seconds to make."""
    folder = tmp_path_factory.mktemp("empty")
    Store(f"sqlite:///{folder}/mlflow.db", folder)
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> None:
    monkeypatch.setitem(globals(), "EMPTY", empty_store)
    monkeypatch.setattr(attaching, "_kept", {})
    monkeypatch.setattr(MemoryShelf, "_used", {})
    monkeypatch.setattr(MemoryShelf, "_costs", {})


def configure(folder: Path, toy_root: Path, *overrides: str) -> DictConfig:
    given = {override.partition("=")[0] for override in overrides}
    place = [f"tracking.directory={folder}/runs", f"dataset.root={toy_root}"]
    epochs = [] if "trainer.max_epochs" in given else ["trainer.max_epochs=2"]
    database = folder / "runs" / "mlflow.db"
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EMPTY, database)
    return compose([*SMALL, *place, *epochs, *overrides])


def run(config: DictConfig) -> Run:
    outcome = execute(config)
    assert outcome.status == "finished", outcome.reason
    return MlflowClient(config.tracking.uri).get_run(outcome.run_id)


def numbers(found: Run) -> dict[str, float]:
    return {name: v for name, v in found.data.metrics.items() if not name.startswith(("time/", "speed/", "memory/"))}


@pytest.mark.parametrize("method", METHODS)
def test_stored_and_computed_features_give_the_same_numbers(method: str, tmp_path: Path, toy_root: Path) -> None:
    """Every method of conf/ that names a frozen part."""
    overrides = METHODS[method]
    config = configure(tmp_path / "off", toy_root, *overrides, "features.store=off")
    computed = run(config)
    assert computed.data.tags["harness.features"] == "computed"
    for time, store in enumerate(("memory", "disk", "disk")):
        more = [f"features.store={store}", f"features.directory={tmp_path}/features"]
        stored = run(configure(tmp_path / str(time), toy_root, *overrides, *more))
        assert stored.data.tags["harness.features"] == "cached"
        assert stored.data.tags["harness.run_key"] == computed.data.tags["harness.run_key"]
        assert numbers(stored) == numbers(computed)


def test_epochs_seeds_methods_and_batches_share_one_extraction(
    tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(configure(tmp_path, toy_root, "method=padim"))  # layers 1 to 3: all that the others need

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr("harness.features.extraction.load_sample", refuse)
    monkeypatch.setattr("harness.data.torch_dataset.load_sample", refuse)
    more = ["method.hidden=32", "seed=3"], ["method=patchcore"], ["trainer.eval_batch_size=5", "method=radl_a"]
    for overrides in more:
        found = run(configure(tmp_path, toy_root, *overrides))
        assert found.data.tags["harness.features"] == "cached"


def test_times_are_those_of_a_run_that_computes(tmp_path: Path, toy_root: Path) -> None:
    """The recorded cost of every image served is in the times; 4 epochs of a small head cost little besides."""
    overrides = ["method.hidden=8", "trainer.max_epochs=4"]
    found = run(configure(tmp_path, toy_root, *overrides))
    category = identify(configure(tmp_path, toy_root)).category
    metrics = found.data.metrics
    per_image = metrics["time/saved"] / (4 * (len(category.train) + len(category.test)))
    assert metrics["time/train"] > 4 * len(category.train) * per_image
    assert metrics["time/evaluation"] > 4 * len(category.test) * per_image
    assert metrics["speed/images_per_second"] < 1 / per_image


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["features.store=off"], "features.store=off"),
        (["augment=autovi"], "augment"),
        (["timing=true"], "timing"),
        (["trainer.precision=bf16-mixed"], "16 bits"),
        (["method.frozen=null"], "names no frozen part"),
    ],
)
def test_never_where_it_would_be_wrong(overrides: list[str], why: str, tmp_path: Path, toy_root: Path) -> None:
    config = configure(tmp_path, toy_root, "method.hidden=16", *overrides)
    found = find_frozen(build_model(config), config)
    reason = found if isinstance(found, str) else may_store(config)
    assert why in reason
    tags = run(config).data.tags
    assert tags["harness.features"] == "computed" and tags["harness.features_reason"] == reason
    assert not list((tmp_path / "runs").glob("features/*/*/*.npy"))


def test_never_with_a_backbone_that_is_trained(tmp_path: Path, toy_root: Path) -> None:
    config = configure(tmp_path, toy_root)
    model = build_model(config)
    (extractor,) = (part for part in model.modules() if isinstance(part, TimmFeatureExtractor))
    assert not isinstance(find_frozen(model, config), str)
    extractor.requires_grad = True
    assert "is trained" in str(find_frozen(model, config))
    extractor.requires_grad = False
    model.model.features.projection = torch.nn.Linear(2, 2)
    assert "is trained" in str(find_frozen(model, config))


def test_a_model_that_looks_at_its_images_elsewhere_too_fails_and_is_not_wrong(tmp_path: Path, toy_root: Path) -> None:
    overrides = ["method=padim", "method.model=stand_ins.Impatient"]
    outcome = execute(configure(tmp_path, toy_root, *overrides, "method.n_features=50"))
    assert outcome.status == "failed"
    assert "not finite" in outcome.reason


def test_features_that_are_evicted_while_a_run_uses_them_change_no_number(
    tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another run that needs the room, which may be on another host; PaDiM reads them in training and in tests."""
    computed = run(configure(tmp_path / "off", toy_root, "features.store=off", "method=padim"))
    extract = attaching._Work._maps

    def extract_and_lose(work: attaching._Work, shelf: DiskShelf) -> object:
        found = extract(work, shelf)
        for path in list((tmp_path / "features").glob("*/*/*.npy"))[::2]:
            path.unlink()
        return found

    monkeypatch.setattr(attaching._Work, "_maps", extract_and_lose)
    found = run(configure(tmp_path, toy_root, "method=padim", f"features.directory={tmp_path}/features"))
    assert found.data.tags["harness.features"] == "cached"
    assert numbers(found) == numbers(computed)


@pytest.mark.parametrize("trouble", ["no room", "no folder"])
def test_a_store_of_no_use_stops_no_run(
    trouble: str, tmp_path: Path, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    computed = run(configure(tmp_path / "off", toy_root, "features.store=off", "method.hidden=16"))
    blocked = tmp_path / "file"
    blocked.touch()
    more = {"no room": "features.limit_gib=0.0001", "no folder": f"features.directory={blocked}/features"}
    found = run(configure(tmp_path, toy_root, "method.hidden=16", more[trouble]))
    assert found.data.tags["harness.features"] == "computed"
    assert numbers(found) == numbers(computed)
    assert "is of no use" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("features/*/*/*.npy"))


def test_half_precision_is_another_run_and_changes_little(tmp_path: Path, toy_root: Path) -> None:
    whole, half = (
        run(configure(tmp_path, toy_root, "method=padim", f"features.dtype={d}")) for d in ("float32", "float16")
    )
    assert whole.data.tags["harness.run_key"] != half.data.tags["harness.run_key"]
    difference = {name: abs(value - numbers(half)[name]) for name, value in numbers(whole).items()}
    assert 0 < max(difference.values()) < 0.02, difference


@pytest.mark.parametrize("cause", ["features.limit_gib=0.0001", "augment=autovi"])
def test_half_precision_without_a_store_is_refused(cause: str, tmp_path: Path, toy_root: Path) -> None:
    """It is in the run key: a run in single precision must not finish under its name."""
    outcome = execute(configure(tmp_path, toy_root, "features.dtype=float16", cause))
    assert outcome.status == "failed"
    assert "features.dtype=float16 means stored features" in outcome.reason


def test_two_processes_fill_one_store(tmp_path: Path, toy_root: Path, run: Callable[..., object]) -> None:
    del run
    given = [*SMALL, "trainer.max_epochs=1", "method=patchcore", f"dataset.root={toy_root}"]
    processes = [start_command([*given, f"seed={seed}"], cwd=tmp_path, fresh=seed == 0) for seed in (0, 1)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert [entry.data.tags["harness.features"] for entry in found] == ["cached", "cached"]
    assert not list(tmp_path.glob("runs/features/*/*/.writing-*"))

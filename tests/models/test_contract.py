"""The contract that every method keeps, built from its YAML: one test of everything, over all of them.

The images are what gives trouble: grey, not square, without masks, 13 to train on (so that a batch has one) and 13 to
test; fewer for EfficientAD, which has batches of one and takes a second an image. Networks are small and untrained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning import LightningDataModule
from mlflow import MlflowClient
from omegaconf import DictConfig
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from harness.data.torch_dataset import collate
from harness.identity import identify
from harness.models.adapter import build_model, class_names
from harness.runs import training
from harness.runs.evaluate import Predictions, predict
from harness.runs.execute import execute
from harness.schema import CONF_DIR, compose

METHODS = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml"))
SUPERVISED = [method for method in METHODS if method.startswith(("auto_classifier", "map_assisted_classifier"))]
BATCH = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes 80×56 in grey, some with a dent or a scratch."""
    root = tmp_path_factory.mktemp("contract")
    generator = np.random.default_rng(0)
    many = (("parts/train/good", 13), ("parts/test/good", 5), ("parts/test/dent", 4), ("parts/test/scratch", 4))
    few = (("few/train/good", 4), ("few/test/good", 2), ("few/test/dent", 2), ("few/test/scratch", 1))
    for folder, count in many + few:
        place = root / folder
        place.mkdir(parents=True)
        for index in range(count):
            rows, columns = np.mgrid[:56, :80]
            image = 128 + 60 * np.sin((rows + 2 * columns) / 5 + generator.uniform(0, 6))
            image += generator.normal(0, 4, image.shape)
            if folder.endswith("dent"):
                image[20:36, 30:46] = 20
            if folder.endswith("scratch"):
                image[26:29, 10:70] = 240
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(place / f"{index}.png")
    return root


def configure(method: str, root: Path, place: Path, *overrides: str) -> DictConfig:
    efficient_ad = method.startswith("efficient_ad")  # one image at a time, and not below 128 pixels
    return compose(
        [
            f"method={method}", "dataset=folder", f"dataset.root={root}", "backbone=toy",
            f"category={'few' if efficient_ad else 'parts'}",
            "weights=random", "trainer=quick", "trainer.max_epochs=2", f"trainer.eval_batch_size={BATCH}",
            f"method.batch_size={1 if efficient_ad else BATCH}", "preprocess=toy",
            f"preprocess.size={128 if efficient_ad else 64}",
            f"tracking.directory={place}/runs", *overrides,
        ]
    )  # fmt: skip


class Fitted:
    """A method trained in this process, and what it says of the test images."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.setup = training._set_up(config, identify(config), torch.device("cpu"))
        training._fit(config, self.setup, [])
        self.model = self.setup.model
        self.predictions = self.predict(self.model)

    def predict(self, model: Any) -> Predictions:
        return predict(model, self.setup.data.test, torch.autocast("cpu", enabled=False))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: MLflow takes seconds to make a database."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module", params=METHODS)
def fitted(request: pytest.FixtureRequest, root: Path, place: Path) -> Fitted:
    return Fitted(configure(request.param, root, place, "features.store=off"))


def test_scores_and_maps_are_finite_and_have_their_shapes(fitted: Fitted) -> None:
    scores, maps = fitted.predictions.scores, fitted.predictions.maps
    tested = len(fitted.setup.split.test)
    assert scores.shape == (tested,) and np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1
    if maps is not None:
        size = fitted.config.preprocess.size
        assert maps.shape == (tested, size, size) and np.isfinite(maps).all()
    if fitted.config.method.get("supervised"):
        probabilities = fitted.predictions.probabilities
        assert probabilities is not None and probabilities.shape == (tested, len(fitted.model.classes))
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(scores, 1 - probabilities[:, 0], atol=1e-6)


def test_saved_and_loaded_it_says_the_same(fitted: Fitted, tmp_path: Path) -> None:
    """Into a model that is built as new and of another seed, from a file that holds tensors only."""
    torch.save(fitted.model.state_dict(), tmp_path / "state.pt")
    other = fitted.config.copy()
    other.seed = 1
    fresh = training._set_up(other, identify(other), torch.device("cpu")).model
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    found = fitted.predict(fresh)
    np.testing.assert_allclose(found.scores, fitted.predictions.scores, rtol=1e-4, atol=1e-5)


def test_an_image_is_judged_alone_as_in_company(fitted: Fitted) -> None:
    batch = next(iter(fitted.setup.data.test))
    fitted.model.eval()
    with torch.inference_mode():
        alone = [fitted.model.model(fitted.model.pre_processor(image[None])).pred_score for image in batch.image]
    np.testing.assert_allclose(
        torch.cat([score.reshape(-1) for score in alone]), fitted.predictions.scores[:BATCH], rtol=1e-3, atol=1e-4
    )


def test_a_run_tracks_its_epochs_and_says_what_the_same_seed_said(fitted: Fitted) -> None:
    """Through the harness, with stored features where the method can use them."""
    config = fitted.config.copy()
    config.features.store = "disk"
    outcome = execute(config)
    assert outcome.status == "finished", outcome.reason
    (found,) = (Path(config.tracking.directory) / "artifacts" / "adhoc" / outcome.run_id).rglob("scores.parquet")
    scores = pd.read_parquet(found).query("split == 'test'")
    np.testing.assert_allclose(scores["score"], fitted.predictions.scores, rtol=1e-6)
    client = MlflowClient(config.tracking.uri)
    epochs = min(2, int(config.method.epochs))
    assert [point.step for point in client.get_metric_history(outcome.run_id, "test/image_auroc")] == list(
        range(epochs)
    )
    assert not any(name.startswith("test/pixel") for name in outcome.metrics)  # there are no masks
    if client.get_run(outcome.run_id).data.tags["harness.trainable"] == "true":
        assert len(client.get_metric_history(outcome.run_id, "train/loss")) == epochs
    if config.method.get("supervised"):
        probabilities = scores[[f"p_{name}" for name in fitted.model.classes]].to_numpy()
        np.testing.assert_allclose(probabilities, fitted.predictions.probabilities, rtol=1e-6)
        assert {"test/class_auroc_ovr", "test/aql", "val/image_auroc", "validation/epoch"} <= set(outcome.metrics)
    assert execute(config).status == "skipped"


def test_it_works_in_anomalibs_engine(fitted: Fitted, root: Path, tmp_path: Path) -> None:
    config = fitted.config
    torch.manual_seed(0)
    model = build_model(config, class_names(config, fitted.setup.split.train))
    engine = Engine(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False, logger=False)
    data: LightningDataModule = _labelled(fitted) if config.method.get("supervised") else _folder(config, root)
    engine.fit(model=model, datamodule=data)
    predictions = engine.predict(model=model, dataloaders=data.val_dataloader())
    assert all(np.isfinite(batch.pred_score.numpy()).all() for batch in predictions)


def _folder(config: DictConfig, root: Path) -> Folder:
    """The images as anomalib reads them."""
    return Folder(
        name=config.category,
        root=root / config.category,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/dent",
        train_batch_size=config.method.batch_size,
        eval_batch_size=BATCH,
        num_workers=0,
        val_split_mode="same_as_test",
    )


class _labelled(LightningDataModule):  # noqa: N801  reads as a function where it is used
    """Labelled images, good and defective, which no data module of anomalib's trains on."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.name, self.category, self.train_batch_size = "parts", "", BATCH
        self.images = fitted.setup.data.train_dataloader().dataset
        self.held = fitted.setup.data.validation.dataset

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.images, BATCH, shuffle=True, collate_fn=collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held, BATCH, collate_fn=collate)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_ends_the_run_as_failed(
    method: str, root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_poisoned(*arguments: Any) -> Any:
        model = build_model(*arguments)
        with torch.no_grad():
            for parameter in model.parameters():
                nn.init.constant_(parameter, float("nan"))
        return model

    monkeypatch.setattr(training, "build_model", build_poisoned)
    config = configure(method, root, place, "features.store=off", "seed=1")
    outcome = execute(config)
    assert outcome.status == "failed"
    assert "not finite" in str(outcome.reason) or "is nan" in str(outcome.reason)
    client = MlflowClient(config.tracking.uri)
    experiment = client.get_experiment_by_name("adhoc").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`harness.run_key` = '{identify(config).key}'")
    assert run.info.status == "FAILED"


@pytest.mark.parametrize("method", SUPERVISED)
def test_a_supervised_method_is_refused_where_defects_are_kept_for_the_test(
    method: str, root: Path, tmp_path: Path
) -> None:
    outcome = execute(configure(method, root, tmp_path, "protocol=one_class"))
    assert outcome.status == "failed"
    assert "supervised" in str(outcome.reason) and "protocol=supervised" in str(outcome.reason)

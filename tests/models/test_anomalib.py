"""RADL and SimpleNet in plain anomalib: Engine, data module, checkpoint, export."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from datamodule import make_datamodule
from lightning.pytorch.loggers import CSVLogger

from harness.models.components import FakeFeatureModule
from harness.models.radl import Radl
from harness.models.simplenet import Simplenet

MakeImages = Callable[[int, int, bool], torch.Tensor]
SMALL = {"pre_trained": False, "hidden": 32, "visualizer": False}


def _preprocess(model_class: type[FakeFeatureModule]) -> torch.nn.Module:
    return model_class.configure_pre_processor((64, 64))


def _engine(root: Path, **arguments: object) -> Engine:
    return Engine(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=root,
        enable_progress_bar=False,
        log_every_n_steps=1,
        **arguments,
    )


@pytest.mark.parametrize("model_class", [Radl, Simplenet])
def test_the_engine_fits_tests_predicts_and_exports(
    model_class: type[FakeFeatureModule], folder: Path, tmp_path: Path, make_images: MakeImages
) -> None:
    dim = {} if model_class is Radl else {"feature_dim": 96}
    model = model_class("resnet18", **SMALL, **dim, pre_processor=_preprocess(model_class))
    logger = CSVLogger(tmp_path)
    engine = _engine(tmp_path, logger=logger)
    engine.fit(model=model, datamodule=make_datamodule(folder))

    assert engine.trainer.current_epoch == 2  # the user's epochs, not the model's
    metrics = engine.trainer.callback_metrics
    names = {"train/loss", "train/loss_real", "train/loss_fake", "train/p_real", "train/p_fake"}
    assert names <= set(metrics)
    torch.testing.assert_close(metrics["train/loss"], metrics["train/loss_real"] + metrics["train/loss_fake"])

    (results,) = engine.test(model=model, datamodule=make_datamodule(folder))
    assert 0 <= results["image_AUROC"] <= 1
    assert 0 <= results["pixel_AUROC"] <= 1

    predictions = engine.predict(model=model, datamodule=make_datamodule(folder))
    assert sum(len(batch.pred_score) for batch in predictions) == 8
    assert predictions[0].anomaly_map.shape == (4, 64, 64)

    exported = engine.export(model=model, export_type=ExportType.TORCH, export_root=tmp_path)
    loaded = torch.load(exported, weights_only=False)["model"].eval()
    images = make_images(1, 2, True)
    torch.testing.assert_close(loaded.model(images).pred_score, model.eval().model(images).pred_score)


@pytest.mark.parametrize("model_class", [Radl, Simplenet])
def test_a_model_is_exported_to_onnx(model_class: type[FakeFeatureModule], tmp_path: Path) -> None:
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        pytest.skip("onnx and onnxscript are not installed")
    model = model_class("resnet18", **SMALL, pre_processor=_preprocess(model_class))
    assert model.to_onnx(tmp_path, input_size=(64, 64)).is_file()


@pytest.mark.parametrize("model_class", [Radl, Simplenet])
def test_a_model_traces_as_the_exporters_need(model_class: type[FakeFeatureModule], make_images: MakeImages) -> None:
    model = model_class("resnet18", **SMALL, post_processor=False, pre_processor=False).eval()
    images = make_images(1, 2, True)
    dynamic = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(model.model, (images,), dynamic_shapes=(dynamic,))
    more = make_images(2, 5, True)
    torch.testing.assert_close(program.module()(more).pred_score, model.model(more).pred_score)


@pytest.mark.parametrize("given", ["name", "network"])
def test_a_checkpoint_gives_equal_scores(given: str, folder: Path, tmp_path: Path, make_images: MakeImages) -> None:
    backbone = "resnet18" if given == "name" else timm.create_model("resnet18")
    layers = ["layer1", "layer2", "layer3"]
    model = Radl(backbone, layers, **SMALL, tau=0.25, pre_processor=_preprocess(Radl))
    engine = _engine(tmp_path, logger=False)
    engine.fit(model=model, datamodule=make_datamodule(folder))
    path = tmp_path / "model.ckpt"
    engine.trainer.save_checkpoint(path)

    again = {} if given == "name" else {"backbone": timm.create_model("resnet18")}
    loaded = Radl.load_from_checkpoint(path, map_location="cpu", **again)

    images = make_images(1, 4, True)
    assert loaded.loss.tau == 0.25
    assert loaded.eval().model(images).pred_score.equal(model.cpu().eval().model(images).pred_score)

"""GANomaly: anomalib's updates and scores, on images of any shape, and in plain anomalib."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import Ganomaly as AnomalibGanomaly
from datamodule import make_datamodule
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from harness.models.ganomaly import Ganomaly
from harness.schema import compose

MakeImages = Callable[[int, int, bool], torch.Tensor]
SMALL = {"n_features": 4, "latent_vec_size": 8}
OFF = {"post_processor": False, "evaluator": False, "visualizer": False}


def _build(model_class: type[AnomalibGanomaly] = Ganomaly, size: tuple[int, int] = (64, 64)) -> AnomalibGanomaly:
    torch.manual_seed(0)
    return model_class(**SMALL, **OFF, pre_processor=model_class.configure_pre_processor(size))


def _fit(model: AnomalibGanomaly, batches: list[torch.Tensor]) -> Trainer:
    model.pre_processor = None  # these images are normalised
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model, DataLoader([ImageBatch(image=images) for images in batches], batch_size=None))
    return trainer


def test_updates_and_scores_are_anomalibs(make_images: MakeImages) -> None:
    batches = [make_images(0, 4, False), make_images(1, 4, False), make_images(2, 1, False)]
    ours, theirs = _build(), _build(AnomalibGanomaly)
    for model in (ours, theirs):
        _fit(model, batches)
    images = make_images(3, 5, True)
    assert ours.eval().model(images).pred_score.equal(theirs.eval().model(images).pred_score)
    for name, value in theirs.state_dict().items():
        assert ours.state_dict()[name].equal(value), name


def test_the_loss_is_the_sum_of_both_networks(make_images: MakeImages) -> None:
    metrics = _fit(_build(), [make_images(0, 4, False), make_images(1, 3, False)]).callback_metrics
    torch.testing.assert_close(metrics["train/loss"], metrics["generator_loss"] + metrics["discriminator_loss"])


def test_the_score_is_the_change_of_the_bottleneck(make_images: MakeImages) -> None:
    model = _build().eval().model
    images = make_images(0, 3, True)
    with torch.no_grad():
        _, before, after = model.generator(images)
        scores = model(images).pred_score
    before, after = before.numpy().reshape(3, 8), after.numpy().reshape(3, 8)
    np.testing.assert_allclose(
        scores.numpy(), [((a - b) ** 2).mean() for a, b in zip(before, after, strict=True)], 1e-5
    )


def test_a_test_step_gives_raw_scores_whatever_the_batch(make_images: MakeImages) -> None:
    model = _build().eval()
    images = make_images(0, 3, True)
    with torch.inference_mode():
        together = model.test_step(ImageBatch(image=images.clone()), 0)
        alone = [model.test_step(ImageBatch(image=image.unsqueeze(0)), i).pred_score for i, image in enumerate(images)]
    torch.testing.assert_close(torch.cat(alone), together.pred_score)
    assert together.anomaly_map is None


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (50, 37), (130, 64)])
def test_any_shape_trains_and_is_scored(size: tuple[int, int]) -> None:
    model = _build(size=size)
    _fit(model, [torch.rand(2, 3, *size), torch.rand(1, 3, *size)])
    with torch.no_grad():
        scores = model.eval().model(torch.rand(3, 3, *size)).pred_score
    assert scores.shape == (3,)
    assert scores.isfinite().all()


def test_the_engine_fits_tests_predicts_and_exports(folder: Path, tmp_path: Path, make_images: MakeImages) -> None:
    data = make_datamodule(folder, train_batch_size=5, eval_batch_size=3)
    pre_processor = Ganomaly.configure_pre_processor((64, 64))
    model = Ganomaly(**SMALL, visualizer=False, pre_processor=pre_processor)
    arguments = {"accelerator": "cpu", "default_root_dir": tmp_path, "enable_progress_bar": False, "logger": False}
    engine = Engine(max_epochs=2, **arguments)
    engine.fit(model=model, datamodule=data)
    assert engine.trainer.current_epoch == 2
    assert "train/loss" in engine.trainer.callback_metrics

    (results,) = engine.test(model=model, datamodule=data)
    assert 0 <= results["image_AUROC"] <= 1
    predictions = engine.predict(model=model, datamodule=data)
    assert sum(len(batch.pred_score) for batch in predictions) == 8

    images = make_images(1, 4, True)
    expected = model.cpu().eval().model(images).pred_score
    exported = engine.export(model=model, export_type=ExportType.TORCH, export_root=tmp_path)
    loaded = torch.load(exported, weights_only=False)["model"].eval()
    torch.testing.assert_close(loaded.model(images).pred_score, expected)

    engine.trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = Ganomaly.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu", pre_processor=pre_processor)
    assert again.eval().model(images).pred_score.equal(expected)


def test_the_yaml_holds_the_settings_of_the_methods_paper() -> None:
    config = compose(["method=ganomaly", "dataset=mvtec_ad"])
    method = config.method
    assert (config.preprocess.size, method.batch_size, method.n_features, method.latent_vec_size) == (256, 32, 64, 100)
    assert (method.wadv, method.wcon, method.wenc, method.lr, method.beta1) == (1, 50, 1, 2e-4, 0.5)
    assert compose(["method=ganomaly"]).method.n_features == 16

"""Our PaDiM against anomalib's and against NumPy in double precision."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import Padim as AnomalibPadim
from anomalib.models.image.padim.torch_model import PadimModel as AnomalibPadimModel
from datamodule import make_datamodule
from numpy.typing import NDArray
from torch import nn

from harness.errors import DataError
from harness.models.padim import Padim, gaussian
from harness.models.padim.torch_model import PadimModel

MakeImages = Callable[[int, int, bool], torch.Tensor]
QUIET = {"pre_trained": False, "post_processor": False, "evaluator": False, "visualizer": False}
SIZES = pytest.mark.parametrize("size", [(64, 64), (72, 52)], ids=["even", "odd"])  # (72, 52): grids 18×13, 9×7, 5×4


def _backbone() -> nn.Module:
    """An untrained resnet18 whose residual branches are open (timm starts them at zero)."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return timm.create_model("resnet18", zero_init_last=False)


def _models(n_features: int = 20) -> tuple[PadimModel, AnomalibPadimModel]:
    """Return ours and anomalib's, made with the same seed."""
    models = []
    for model_class in (Padim, AnomalibPadim):
        torch.manual_seed(3)
        models.append(model_class(_backbone(), n_features=n_features, pre_processor=False, **QUIET).model)
    return models[0], models[1]


def _fit(model: AnomalibPadimModel, images: torch.Tensor, batch: int = 5) -> None:
    model.train()
    model.feature_extractor.eval()
    for some in images.split(batch):
        model(some)
    model.fit()
    model.eval()


def test_construction_draws_the_same_channels_and_no_more_random_numbers() -> None:
    drawn = []
    for model_class in (Padim, AnomalibPadim):
        torch.manual_seed(3)
        model = model_class("resnet18", n_features=30, **QUIET).model
        drawn.append((model.idx, torch.get_rng_state(), *model.feature_extractor.parameters()))
    assert all(ours.equal(theirs) for ours, theirs in zip(*drawn, strict=True))


@SIZES
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_embeddings_are_anomalibs(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    ours, theirs = _models()
    maps = theirs.feature_extractor(torch.rand(3, 3, *size))
    maps = {name: x.contiguous(memory_format=memory_format) for name, x in maps.items()}
    embedding = ours.generate_embedding(maps)
    assert embedding.equal(theirs.generate_embedding(maps))
    assert embedding.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("chosen", [[300, 70, 64, 63, 0, 447, 191, 192], [5, 3], [447, 200]], ids=str)
def test_embeddings_with_channels_of_few_layers_are_anomalibs(chosen: list[int]) -> None:
    ours, theirs = _models(len(chosen))
    ours.idx = theirs.idx = torch.tensor(chosen)
    maps = theirs.feature_extractor(torch.rand(2, 3, 64, 64))
    assert ours.generate_embedding(maps).equal(theirs.generate_embedding(maps))


@SIZES
def test_scores_and_maps_are_anomalibs(size: tuple[int, int], make_images: MakeImages) -> None:
    ours, theirs = _models()
    train = make_images(0, 12, False)[..., : size[1]].repeat(1, 1, 2, 1)[:, :, : size[0]]
    test = make_images(1, 4, True)[..., : size[1]].repeat(1, 1, 2, 1)[:, :, : size[0]]
    for model in (ours, theirs):
        _fit(model, train)
    expected, result = theirs(test), ours(test)

    assert ours.memory_bank == []
    assert ours.gaussian.mean.shape == theirs.gaussian.mean.shape
    assert ours.gaussian.inv_covariance.shape == theirs.gaussian.inv_covariance.shape
    torch.testing.assert_close(ours.gaussian.mean, theirs.gaussian.mean)
    torch.testing.assert_close(result.anomaly_map, expected.anomaly_map, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.pred_score, expected.pred_score, rtol=1e-4, atol=1e-4)


def _precise(embedding: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position by position, in double precision, with NumPy's covariance."""
    vectors = embedding.flatten(2).double().numpy()  # B, C, P
    regular = (0.01 + 1e-5) * np.eye(vectors.shape[1])
    inverses = [np.linalg.inv(np.cov(vectors[..., p], rowvar=False) + regular) for p in range(vectors.shape[2])]
    return vectors.mean(0), np.stack(inverses)


@pytest.mark.parametrize("chunk", [1, 20_000, 2**24], ids=["one position", "some", "all"])
@pytest.mark.parametrize("images", [9, 40])
def test_gaussians_are_numpys_whatever_the_chunk(images: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian, "CHUNK", chunk)
    embedding = torch.rand(images, 12, 5, 7) * torch.linspace(0, 3, 12).view(-1, 1, 1)  # the first never varies
    mean, inverse = _precise(embedding)
    for layout in (embedding, embedding.contiguous(memory_format=torch.channels_last)):
        fitted = gaussian.BatchedGaussian()
        fitted.fit(layout)
        np.testing.assert_allclose(fitted.mean.numpy(), mean, rtol=1e-5)
        np.testing.assert_allclose(fitted.inv_covariance.numpy(), inverse, atol=1e-5 * np.abs(inverse).max())


def test_one_image_is_no_distribution() -> None:
    with pytest.raises(DataError, match="two training images or more"):
        gaussian.BatchedGaussian().fit(torch.rand(1, 3, 2, 2))


def test_an_empty_memory_bank_is_anomalibs_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        _models()[0].fit()


def test_states_fit_both_ways(make_images: MakeImages) -> None:
    ours, theirs = _models()
    _fit(theirs, make_images(0, 8, False))
    ours.load_state_dict(theirs.state_dict())
    again, _ = _models()
    again.load_state_dict(ours.state_dict())
    images = make_images(1, 3, True)
    for model in (ours.eval(), again.eval()):
        torch.testing.assert_close(model(images).anomaly_map, theirs(images).anomaly_map, rtol=1e-4, atol=1e-4)


def test_the_engine_fits_tests_and_exports(folder: Path, tmp_path: Path, make_images: MakeImages) -> None:
    pre_processor = Padim.configure_pre_processor((64, 64))
    model = Padim("resnet18", pre_trained=False, n_features=20, pre_processor=pre_processor, visualizer=False)
    engine = Engine(accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False, logger=False)
    engine.fit(model=model, datamodule=make_datamodule(folder))
    (results,) = engine.test(model=model, datamodule=make_datamodule(folder))
    assert 0 <= results["pixel_AUROC"] <= 1

    engine.trainer.save_checkpoint(tmp_path / "model.ckpt")
    images = make_images(1, 4, True)
    loaded = Padim.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu").eval()
    expected = model.eval().model(images)
    assert loaded.hparams.n_features == 20
    assert loaded.model(images).pred_score.equal(expected.pred_score)

    exported = engine.export(model=model, export_type=ExportType.TORCH, export_root=tmp_path)
    whole = torch.load(exported, weights_only=False)["model"].eval()
    assert whole.model(images).pred_score.equal(expected.pred_score)
    if find_spec("onnx") is not None and find_spec("onnxscript") is not None:
        assert model.to_onnx(tmp_path, input_size=(64, 64)).is_file()


def test_the_model_traces_as_the_exporters_need(make_images: MakeImages) -> None:
    model = _models()[0]
    _fit(model, make_images(0, 8, False))
    dynamic = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(model, (make_images(1, 2, True),), dynamic_shapes=(dynamic,))
    more = make_images(2, 5, True)
    torch.testing.assert_close(program.module()(more).pred_score, model(more).pred_score, rtol=1e-4, atol=1e-4)

"""Our PatchCore against anomalib's: the same bank from the same seed, the same scores and maps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import Patchcore as AnomalibPatchcore
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel
from datamodule import make_datamodule
from torch import nn

from harness.errors import ConfigError
from harness.models.patchcore import Patchcore, neighbours, torch_model
from harness.models.patchcore.torch_model import PatchcoreModel

MakeImages = Callable[[int, int, bool], torch.Tensor]
QUIET = {"pre_trained": False, "post_processor": False, "evaluator": False, "visualizer": False}


def _backbone() -> nn.Module:
    """An untrained resnet18 whose residual branches are open (timm starts them at zero)."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return timm.create_model("resnet18", zero_init_last=False)


def _models(**settings: object) -> tuple[PatchcoreModel, AnomalibPatchcoreModel]:
    """Return ours and anomalib's, with equal weights."""
    settings = {"coreset_sampling_ratio": 0.2, "pre_processor": False, **QUIET, **settings}
    return tuple(model(_backbone(), **settings).model for model in (Patchcore, AnomalibPatchcore))


def _seed(seed: int) -> None:
    """Both generators: the projection of the embedding draws from torch's and from NumPy's."""
    torch.manual_seed(seed)
    np.random.seed(seed)


def _fit(model: AnomalibPatchcoreModel, images: torch.Tensor, ratio: float = 0.2) -> None:
    model.train()
    model.feature_extractor.eval()
    _seed(5)
    for batch in images.split(5):
        model(batch)
    model.subsample_embedding(ratio)
    model.eval()


def _assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("num_neighbors", [1, 9])
@pytest.mark.parametrize("ball", [neighbours.BALL, 4], ids=["one ball", "many balls"])
def test_bank_scores_and_maps_are_anomalibs(
    num_neighbors: int, ball: int, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BALL", ball)
    ours, theirs = _models(num_neighbors=num_neighbors)
    for model in (ours, theirs):
        _fit(model, make_images(0, 12, False))
    assert ours.memory_bank.equal(theirs.memory_bank)
    assert ours.embedding_store == []

    images = torch.cat([make_images(0, 2, False), make_images(1, 4, True)])
    result, expected = ours(images), theirs(images)
    _assert_close(result.pred_score[2:], expected.pred_score[2:])
    _assert_close(result.anomaly_map[2:], expected.anomaly_map[2:])
    # Images of the bank: most distances are 0, and anomalib's roots of rounded squares are not.
    torch.testing.assert_close(result.pred_score, expected.pred_score, rtol=1e-3, atol=1e-2)


def test_a_bank_smaller_than_the_neighbourhood_scores_as_anomalibs(make_images: MakeImages) -> None:
    ours, theirs = _models()
    for model in (ours, theirs):
        _fit(model, make_images(0, 2, False), ratio=4 / 128)
    assert len(ours.memory_bank) == 4
    images = make_images(1, 3, True)
    _assert_close(ours(images).pred_score, theirs(images).pred_score)


def test_half_precision_is_anomalibs(make_images: MakeImages) -> None:
    ours, theirs = _models(precision="float16")
    for model in (ours, theirs):
        _fit(model, make_images(0, 6, False))
    assert ours.memory_bank.dtype == torch.float16
    assert ours.memory_bank.equal(theirs.memory_bank)
    images = make_images(1, 3, True)
    result, expected = ours(images), theirs(images)
    assert result.pred_score.equal(expected.pred_score)
    torch.testing.assert_close(result.anomaly_map, expected.anomaly_map, rtol=1e-2, atol=1e-2)


def test_construction_uses_no_more_random_numbers() -> None:
    drawn = []
    for model_class in (Patchcore, AnomalibPatchcore):
        torch.manual_seed(3)
        model = model_class("resnet18", **QUIET).model
        drawn.append((torch.get_rng_state(), *model.feature_extractor.parameters()))
    assert all(ours.equal(theirs) for ours, theirs in zip(*drawn, strict=True))


@pytest.mark.parametrize("size", [(64, 64), (72, 52), (224, 40)])
@pytest.mark.parametrize("layers", [("layer1", "layer2", "layer3"), ("layer2", "layer3"), ("layer3",)], ids=len)
def test_embeddings_are_anomalibs_bit_for_bit(size: tuple[int, int], layers: tuple[str, ...]) -> None:
    ours, theirs = (model.train() for model in _models(layers=layers))
    images = torch.rand(2, 3, *size)
    for model in (ours, theirs):
        model.feature_extractor.eval()
    assert ours(images).equal(theirs(images))
    assert ours.embedding_store[0].is_contiguous()


def test_embeddings_are_stacked_as_they_came() -> None:
    parts = [torch.rand(count, 3) for count in (4, 1, 7)]
    expected = torch.vstack(parts)
    assert torch_model._stack(parts).equal(expected)
    assert parts == []


def test_nothing_collected_is_anomalibs_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        _models()[0].subsample_embedding(0.1)


def test_an_empty_coreset_is_a_configuration_error(make_images: MakeImages) -> None:
    with pytest.raises(ConfigError, match="coreset_sampling_ratio"):
        _fit(_models()[0], make_images(0, 1, False), ratio=1e-3)


def test_states_fit_both_ways_and_the_search_follows(make_images: MakeImages) -> None:
    ours, theirs = _models()
    images = make_images(1, 3, True)
    for seed in (0, 2):  # the second time the bank has its size already, and is written in place
        _fit(theirs, make_images(seed, 8, False))
        ours.load_state_dict(theirs.state_dict())
        _assert_close(ours.eval()(images).pred_score, theirs(images).pred_score)
    theirs.load_state_dict(ours.state_dict())
    ours.memory_bank = ours.memory_bank[:50] + 0.1
    theirs.memory_bank = ours.memory_bank.clone()
    _assert_close(ours(images).pred_score, theirs(images).pred_score)


def test_a_copy_does_not_carry_the_search(make_images: MakeImages) -> None:
    model = _models()[0]
    _fit(model, make_images(0, 4, False))
    images = make_images(1, 2, True)
    expected = model(images).pred_score
    assert model._searched is not None
    again = copy.deepcopy(model)
    assert again._searched is None
    assert again(images).pred_score.equal(expected)


def test_scores_are_anomalibs_where_products_are_rounded_to_bfloat16(make_images: MakeImages) -> None:
    """Ours does without that rounding; the search for neighbours would be wrong with it."""
    model = _models()[0]
    _fit(model, make_images(0, 4, False))
    embedding = torch.rand(200, model.memory_bank.shape[1])
    exact = [model.nearest_neighbors(embedding, count) for count in (1, 3)]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        again = [model.nearest_neighbors(embedding, count) for count in (1, 3)]
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(a.equal(b) for one, other in zip(exact, again, strict=True) for a, b in zip(one, other, strict=True))


def test_the_engine_fits_tests_and_predicts_as_anomalibs(folder: Path, tmp_path: Path) -> None:
    scores, banks = [], []
    for model_class in (Patchcore, AnomalibPatchcore):
        _seed(0)
        pre_processor = model_class.configure_pre_processor((64, 64))
        quiet = {"pre_processor": pre_processor, "visualizer": False}
        model = model_class(_backbone(), coreset_sampling_ratio=0.2, **quiet)
        engine = Engine(accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False, logger=False)
        engine.fit(model=model, datamodule=make_datamodule(folder))
        (results,) = engine.test(model=model, datamodule=make_datamodule(folder))
        assert 0 <= results["pixel_AUROC"] <= 1
        predictions = engine.predict(model=model, datamodule=make_datamodule(folder))
        scores.append(torch.cat([batch.pred_score for batch in predictions]))
        banks.append(model.model.memory_bank)
    assert banks[0].equal(banks[1])
    _assert_close(scores[0], scores[1])


def test_a_model_is_saved_and_exported(folder: Path, tmp_path: Path, make_images: MakeImages) -> None:
    pre_processor = Patchcore.configure_pre_processor((64, 64))
    model = Patchcore("resnet18", pre_trained=False, pre_processor=pre_processor, visualizer=False)
    engine = Engine(accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False, logger=False)
    engine.fit(model=model, datamodule=make_datamodule(folder))
    images = make_images(1, 4, True)
    expected = model.eval().model(images)

    engine.trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = Patchcore.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu").eval()
    assert loaded.model(images).pred_score.equal(expected.pred_score)

    exported = engine.export(model=model, export_type=ExportType.TORCH, export_root=tmp_path)
    whole = torch.load(exported, weights_only=False)["model"].eval()
    assert whole.model(images).pred_score.equal(expected.pred_score)
    if find_spec("onnx") is not None and find_spec("onnxscript") is not None:
        assert model.to_onnx(tmp_path, input_size=(64, 64)).is_file()


def test_the_model_traces_as_the_exporters_need(make_images: MakeImages) -> None:
    model = _models()[0]
    _fit(model, make_images(0, 8, False))
    program = torch.export.export(model, (make_images(1, 2, True),))
    more = make_images(2, 2, True)
    _assert_close(program.module()(more).pred_score, model(more).pred_score)

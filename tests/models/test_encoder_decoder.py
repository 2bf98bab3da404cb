"""The encoder-decoder of paper 003: its parts against explicit computations, its training, plain anomalib."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from anomalib.data import ImageBatch
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from datamodule import make_datamodule
from lightning.pytorch import Trainer
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader

from harness.errors import ConfigError
from harness.models.components.msgms import msgms
from harness.models.encoder_decoder import EncoderDecoder
from harness.models.encoder_decoder.decoder import AttendedSkip
from harness.models.encoder_decoder.encoder import FrozenBlocks, InputNoise
from harness.models.encoder_decoder.torch_model import EncoderDecoderModel
from harness.schema import compose

MakeImages = Callable[[int, int, bool], torch.Tensor]


class TinyVgg(nn.Module):
    """Blocks of a VGG, a classifier, and BatchNorm to see whether it stays frozen."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 8), (8, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(16, 1000)


def _build(**arguments: Any) -> EncoderDecoder:
    settings: dict[str, Any] = {"dim": 16, "noise": 0.1, "learning_rate": 2e-3, "visualizer": False}
    given = {"pre_processor": False, "post_processor": False, "evaluator": False} | settings | arguments
    return EncoderDecoder(given.pop("backbone", None) or TinyVgg(), **given)


@pytest.fixture
def images(make_images: MakeImages) -> Callable[[int, int, bool], torch.Tensor]:
    """As `make_images`, with values in [0, 1]."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    return lambda seed, count, damaged: (make_images(seed, count, damaged) * 0.225 + mean).clamp(0, 1)


# --- parts


def test_vgg19_is_cut_after_its_third_pooling_and_the_rest_of_it_is_not_kept() -> None:
    with torch.device("meta"):  # shapes without 574 MB of weights
        blocks = FrozenBlocks("vgg19", None, False)
        maps = blocks(torch.zeros(2, 3, 224, 224))

    widths = [3, 64, 64, 128, 128, 256, 256, 256, 256]
    convolutions = sum(9 * a * b + b for a, b in pairwise(widths))
    assert sum(p.numel() for p in blocks.parameters()) == convolutions
    assert [tuple(x.shape[1:]) for x in maps] == [(64, 112, 112), (128, 56, 56), (256, 28, 28)]


def test_blocks_give_the_networks_own_features_of_normalised_images() -> None:
    network = timm.create_model("resnet18").eval()
    x = torch.rand(2, 3, 64, 96)
    given = FrozenBlocks(network, None, False)
    named = FrozenBlocks(network, ["act1", "layer1", "layer2"], False)

    normalised = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    with torch.no_grad():
        expected = network.forward_intermediates(normalised, indices=[0, 1, 2], intermediates_only=True)

    for a, b, c in zip(given(x), named(x), expected, strict=True):
        torch.testing.assert_close(a, c)
        assert a.equal(b)


@pytest.mark.parametrize("layers", [["layer1", "layer2"], ["layer2", "layer1", "act1"], ["act1", "layer1", "nowhere"]])
def test_blocks_that_the_backbone_does_not_have_are_refused(layers: Sequence[str]) -> None:
    with pytest.raises(ConfigError, match="three blocks"):
        FrozenBlocks(timm.create_model("resnet18"), layers, False)


def test_noise_is_fresh_in_training_and_one_field_in_evaluation() -> None:
    noise = InputNoise(0.3, in_evaluation=True)
    clean = torch.full((2, 3, 280, 300), 0.5)
    first, second = noise(clean), noise(clean)
    assert not first.equal(second)
    assert abs(float((first - clean).std()) - 0.3) < 0.005

    noise.eval()
    state = torch.random.get_rng_state()
    added = noise(clean) - clean
    assert torch.random.get_rng_state().equal(state)
    assert added[0].equal(added[1])
    torch.testing.assert_close(added[:1], noise(clean[:1]) - clean[:1])
    torch.testing.assert_close(added[..., 256:, :40], added[..., :24, :40])  # the field goes on from its start
    assert abs(float(added.std()) - 0.3) < 0.005
    assert abs(float(added.mean())) < 0.005


@pytest.mark.parametrize(("sigma", "in_evaluation"), [(0.0, True), (0.3, False)])
def test_no_noise_leaves_images_as_they_are(sigma: float, in_evaluation: bool) -> None:
    x = torch.rand(1, 3, 32, 32)
    assert InputNoise(sigma, in_evaluation).eval()(x).equal(x)


def test_a_skip_connection_is_equations_1_to_3() -> None:
    channels, heads, reduction, height, width = 8, 2, 4, 8, 12
    skip = AttendedSkip(channels, heads, reduction).eval()
    nn.init.uniform_(skip.norm.weight, 0.5, 2)
    x = torch.randn(1, channels, height, width)

    keys = []
    w = skip.reduce.weight.reshape(channels, -1)  # W: R²·C values to C, eq. 2
    for row in range(0, height, reduction):
        for column in range(0, width, reduction):
            k = w @ x[0, :, row : row + reduction, column : column + reduction].reshape(-1) + skip.reduce.bias
            normed = (k - k.mean()) / (k.var(unbiased=False) + skip.norm.eps).sqrt()  # eq. 3
            keys.append(normed * skip.norm.weight + skip.norm.bias)
    reduced = torch.stack(keys)
    w_q, w_k, w_v = skip.attention.in_proj_weight.chunk(3)
    q, k, v = x[0].flatten(1).T @ w_q.T, reduced @ w_k.T, reduced @ w_v.T
    size, parts = channels // heads, []
    for h in range(heads):
        of_head = slice(h * size, (h + 1) * size)
        weights = torch.softmax(q[:, of_head] @ k[:, of_head].T / math.sqrt(size), dim=1)  # eq. 1
        parts.append(weights @ v[:, of_head])
    attended = torch.cat(parts, dim=1) @ skip.attention.out_proj.weight.T
    expected = skip.convolution(attended.T.reshape(1, channels, height, width))

    torch.testing.assert_close(skip(x), expected, atol=1e-5, rtol=1e-4)


def test_the_map_is_the_filtered_sum_and_the_score_its_maximum() -> None:
    x, y = torch.rand(2, 3, 33, 40), torch.rand(2, 3, 33, 40)
    judged = EncoderDecoderModel(TinyVgg(), dim=16, window=21).judge(x, y)

    raw = (1 - msgms(x, y) + ((x - y) ** 2).mean(dim=1, keepdim=True))[:, 0].numpy()
    expected = np.empty_like(raw)
    for row, column in np.ndindex(33, 40):
        near = raw[:, max(row - 10, 0) : row + 11, max(column - 10, 0) : column + 11]
        expected[:, row, column] = near.mean(axis=(1, 2))
    torch.testing.assert_close(judged.anomaly_map[:, 0], torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(judged.pred_score, torch.from_numpy(expected.max(axis=(1, 2))), atol=1e-5, rtol=1e-5)


# --- the whole


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (50, 71), (32, 32)])
def test_scores_and_maps_have_the_images_shape(size: tuple[int, int], skips: bool) -> None:
    model = _build(skips=skips).model.eval()
    x = torch.rand(3, 3, *size)
    with torch.inference_mode():
        output, alone = model(x), model(x[1:2])

    assert output.pred_score.shape == (3,)
    assert output.anomaly_map.shape == (3, 1, *size)
    assert torch.isfinite(output.anomaly_map).all()
    torch.testing.assert_close(alone.pred_score, output.pred_score[1:2])
    reconstruction = model.reconstruct(x)
    assert reconstruction.shape == x.shape
    assert 0 <= reconstruction.min() <= reconstruction.max() <= 1


@pytest.mark.parametrize("skips", [True, False])
def test_without_skips_only_tokens_reach_the_decoder(skips: bool) -> None:
    model = _build(skips=skips).model.eval()
    x = torch.rand(1, 3, 64, 64)
    before = model.reconstruct(x)
    nn.init.constant_(model.scaled[0].convolution[1].bias, 5.0)  # reaches the first skip connection and nothing else
    assert model.reconstruct(x).equal(before) is not skips


def test_a_copy_of_the_weights_gives_the_same_scores_and_a_seed_the_same_weights() -> None:
    torch.manual_seed(1)
    model = _build()
    torch.manual_seed(2)
    other = _build()
    x = torch.rand(2, 3, 64, 64)
    assert not other.eval().model(x).pred_score.equal(model.eval().model(x).pred_score)
    other.load_state_dict(model.state_dict())
    assert other.eval().model(x).pred_score.equal(model.eval().model(x).pred_score)
    torch.manual_seed(1)
    assert _build().eval().model(x).pred_score.equal(model.model(x).pred_score)


def test_the_backbone_stays_frozen_and_everything_else_learns() -> None:
    model = _build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = model.configure_optimizers()
    model.train()
    x = torch.rand(4, 3, 64, 64)
    model.loss(model.model(x), x).total.backward()
    optimiser.step()

    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {name for name, _ in model.named_parameters() if not name.startswith("model.blocks")}
    assert not model.model.blocks.training


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"dim": 18}, "dim=18"), ({"window": 20}, "window=20"), ({"noise": -0.1}, "noise=-0.1")],
)
def test_settings_without_a_meaning_are_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        _build(**arguments)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match="32×32"):
        _build().eval().model(torch.rand(1, 3, 31, 64))


# --- training


def _loader(images: torch.Tensor, labels: Sequence[int] | None = None) -> DataLoader:
    def collate(indices: list[int]) -> ImageBatch:
        of = None if labels is None else torch.tensor([bool(labels[i]) for i in indices])
        return ImageBatch(image=images[indices], gt_label=of)

    return DataLoader(range(len(images)), batch_size=8, collate_fn=collate)


def _fit(model: EncoderDecoder, epochs: int, train: DataLoader, validation: DataLoader | None = None) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, train, validation)
    return trainer


def test_it_learns_to_restore_what_is_normal_and_not_what_is_damaged(images: MakeImages) -> None:
    model = _build(learning_rate=1e-2)
    train = _loader(images(0, 32, False))
    first = _fit(model, 1, train).callback_metrics
    last = _fit(model, 12, train).callback_metrics
    assert last["train/loss"] < 0.1 * first["train/loss"]
    torch.testing.assert_close(last["train/loss"], last["train/loss_l2"] + last["train/loss_ssim"])

    x = torch.cat([images(1, 12, False), images(2, 12, True)])
    with torch.inference_mode():
        scores = model.eval().model(x).pred_score
    assert roc_auc_score([0] * 12 + [1] * 12, scores) > 0.95


def test_the_validation_loss_is_that_of_the_normal_images_and_the_same_each_time(images: MakeImages) -> None:
    normal, damaged = images(0, 11, False), images(1, 5, True)
    model = _build(learning_rate=0.0)
    mixed = _loader(torch.cat([damaged, normal]), [1] * 5 + [0] * 11)
    found = [float(_fit(model, 1, _loader(normal), data).callback_metrics["val/loss"]) for data in (mixed, mixed)]

    with torch.no_grad():
        expected = model.eval().loss(model.model.reconstruct(normal), normal).total
    assert found[0] == found[1]
    assert found[0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("start", "patience", "epochs"), [(1, 2, 3), (4, 1, 5), (2, 3, 5), (6, 3, 8)])
def test_training_ends_after_epochs_without_improvement_counted_from_the_start_epoch(
    start: int, patience: int, epochs: int, images: MakeImages
) -> None:
    model = _build(learning_rate=0.0, stop_from=start, patience=patience)  # it learns nothing: no loss is smaller
    data = _loader(images(0, 2, False))
    assert _fit(model, 8, data, data).current_epoch == epochs


def test_without_validation_images_training_goes_on(images: MakeImages) -> None:
    data = _loader(images(0, 2, False))
    model = _build(learning_rate=0.0, stop_from=1, patience=1)
    assert _fit(model, 4, data).current_epoch == 4


# --- configuration


@pytest.mark.parametrize(
    ("method", "data", "noise", "skips"),
    [
        ("encoder_decoder", ["dataset=mvtec_ad", "category=metal_nut"], 0.3, True),
        ("encoder_decoder", ["dataset=mvtec_ad", "category=pill"], 0.09, True),
        ("encoder_decoder", ["dataset=folder", "category=v1.2"], 0.2, True),
        ("encoder_decoder", [], 0.2, True),
        ("encoder_decoder_no_noise", ["dataset=mvtec_ad"], 0.0, True),
        ("encoder_decoder_no_skips", ["dataset=mvtec_ad"], 0.1, False),
    ],
)
def test_noise_is_chosen_by_category(method: str, data: list[str], noise: float, skips: bool) -> None:
    config = compose([f"method={method}", *data]).method
    assert (config.name, config.noise, config.skips) == ("encoder_decoder", noise, skips)


def test_every_category_of_mvtec_ad_has_a_noise_of_the_papers_and_its_settings() -> None:
    config = compose(["method=encoder_decoder", "dataset=mvtec_ad"])
    assert config.method.tuned_on_test.noise == {  # section IV-B
        "bottle": 0.1, "cable": 0.25, "capsule": 0.2, "hazelnut": 0.2, "metal_nut": 0.3, "pill": 0.09, "screw": 0.2,
        "toothbrush": 0.3, "transistor": 0.3, "zipper": 0.1, "carpet": 0.4, "grid": 0.16, "leather": 0.1, "tile": 0.11,
        "wood": 0.09, "button": 0.09,
    }  # fmt: skip
    assert set(config.dataset.categories) < set(config.method.tuned_on_test.noise)
    assert (config.preprocess.mode, config.preprocess.size) == ("resize", 224)
    method = config.method
    assert (method.epochs, method.stop_from, method.patience, method.batch_size) == (2000, 800, 300, 8)
    assert (method.dim, method.heads, method.dropout, method.learning_rate) == (512, 4, 0.25, 1e-4)


def test_the_network_is_built_with_the_papers_settings() -> None:
    """Section IV-B, at VGG19's channels: heads 4, 2 and 1, D 512, reductions 8 and 4, dropout 0.25."""
    model = EncoderDecoder(timm.create_model("vgg19", pretrained=False), pre_trained=False).model
    found = [(skip.attention.embed_dim, skip.attention.num_heads, skip.reduce.stride[0]) for skip in model.skips[:2]]
    assert found == [(64, 1, 8), (128, 2, 4)]
    assert isinstance(model.skips[2], nn.Identity)
    (block,) = model.transformer.blocks
    assert (block.self_attn.embed_dim, block.self_attn.num_heads) == (512, 4)
    assert {module.p for module in block.modules() if isinstance(module, nn.Dropout)} == {0.25}
    assert block.self_attn.dropout == 0.25


# --- plain anomalib


def test_the_engine_fits_tests_predicts_and_exports(folder: Path, tmp_path: Path, images: MakeImages) -> None:
    pre_processor = EncoderDecoder.configure_pre_processor((64, 64))
    model = _build(pre_processor=pre_processor, post_processor=True, evaluator=True)
    engine = Engine(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False, log_every_n_steps=1
    )
    engine.fit(model=model, datamodule=make_datamodule(folder, eval_batch_size=3))
    assert {"train/loss", "train/loss_l2", "train/loss_ssim", "val/loss"} <= set(engine.trainer.callback_metrics)

    (results,) = engine.test(model=model, datamodule=make_datamodule(folder, eval_batch_size=3))
    assert 0 <= results["image_AUROC"] <= 1
    assert 0 <= results["pixel_AUROC"] <= 1
    predictions = engine.predict(model=model, datamodule=make_datamodule(folder, eval_batch_size=3))
    assert sum(len(batch.pred_score) for batch in predictions) == 8

    exported = engine.export(model=model, export_type=ExportType.TORCH, export_root=tmp_path)
    loaded = torch.load(exported, weights_only=False)["model"].eval()
    x = images(1, 2, True)
    torch.testing.assert_close(loaded.model(x).pred_score, model.eval().model(x).pred_score)

    path = tmp_path / "model.ckpt"
    engine.trainer.save_checkpoint(path)
    again = EncoderDecoder.load_from_checkpoint(path, map_location="cpu", backbone=TinyVgg())
    torch.testing.assert_close(again.eval().model(x).pred_score, model.model(x).pred_score)


def test_a_model_traces_as_the_exporters_need(images: MakeImages) -> None:
    model = _build().eval()
    dynamic = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(model.model, (images(1, 2, True),), dynamic_shapes=(dynamic,))
    more = images(2, 5, True)
    torch.testing.assert_close(program.module()(more).pred_score, model.model(more).pred_score)

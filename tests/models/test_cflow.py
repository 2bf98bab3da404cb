"""Our CFLOW-AD against anomalib's, and scores that do not depend on the batch."""

from collections.abc import Callable

import lightning
import pytest
import timm
import torch
from anomalib.data import ImageBatch
from anomalib.models import Cflow as AnomalibCflow
from sklearn.metrics import roc_auc_score
from torch import nn

from harness.models.cflow import Cflow

MakeImages = Callable[[int, int, bool], torch.Tensor]
LAYERS = ["layer1", "layer2"]
SMALL = {"layers": LAYERS, "coupling_blocks": 2, "condition_vector": 8}
OFF = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}


def _backbone() -> nn.Module:
    """An untrained resnet18 whose residual branches are open (timm starts them at zero)."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return timm.create_model("resnet18", zero_init_last=False)


def _make(model_class: type[AnomalibCflow] = Cflow, **settings: object) -> AnomalibCflow:
    torch.manual_seed(3)
    return model_class(_backbone(), **{**SMALL, **settings}, **OFF)


def _fit(module: AnomalibCflow, images: torch.Tensor, epochs: int = 1, batch: int = 4) -> AnomalibCflow:
    torch.manual_seed(4)
    batches = [ImageBatch(image=some) for some in images.split(batch)]
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return module.eval()


def _decoders(module: AnomalibCflow) -> dict[str, torch.Tensor]:
    return {name: value for name, value in module.model.state_dict().items() if name.startswith("decoders")}


@pytest.mark.parametrize("size", [64, 56])  # 56: 196 + 49 fibers an image, which 64 does not divide
def test_the_same_seed_trains_anomalibs_decoders(size: int, make_images: MakeImages) -> None:
    images = make_images(0, 4, False)[..., :size, :size]
    ours, theirs = (_decoders(_fit(_make(kind), images)) for kind in (Cflow, AnomalibCflow))
    assert not ours["decoders.0.module_list.0.subnet.0.weight"].equal(
        _decoders(_make())["decoders.0.module_list.0.subnet.0.weight"]
    )
    assert all(value.equal(theirs[name]) for name, value in ours.items())


def test_with_the_batchs_own_references_maps_are_anomalibs_up_to_a_constant(make_images: MakeImages) -> None:
    ours, theirs = _make(), _make(AnomalibCflow).eval()
    images = make_images(1, 3, True)[..., :48]
    maps = ours.model.encoder(images)
    with torch.no_grad():
        likelihoods = [ours.model.log_likelihood(i, *ours.model.fibers(maps[name])) for i, name in enumerate(LAYERS)]
        ours.model.anomaly_map_generator.reference.copy_(torch.stack([values.max() for values in likelihoods]))
        difference = ours.model(images).anomaly_map - theirs.model(images).anomaly_map
    torch.testing.assert_close(difference, difference[0, 0, 0].expand_as(difference), rtol=0, atol=1e-5)


def test_a_score_does_not_depend_on_the_batch(make_images: MakeImages) -> None:
    module = _fit(_make(), make_images(0, 4, False))
    images = torch.cat([make_images(1, 2, False), make_images(2, 2, True)])
    together = module.model(images)
    for index, image in enumerate(images):
        alone = module.model(image[None])
        torch.testing.assert_close(alone.pred_score[0], together.pred_score[index])
        torch.testing.assert_close(alone.anomaly_map[0], together.anomaly_map[index])


def test_the_reference_is_the_last_epochs_largest_likelihood(make_images: MakeImages) -> None:
    """With a learning rate of zero, that is the largest likelihood of the training images."""
    images = make_images(0, 5, False)
    module = _fit(_make(lr=0.0), images, epochs=2)
    maps = module.model.encoder(images)
    with torch.no_grad():
        largest = [module.model.log_likelihood(i, *module.model.fibers(maps[x])).max() for i, x in enumerate(LAYERS)]
    torch.testing.assert_close(module.model.anomaly_map_generator.reference, torch.stack(largest))


def test_a_batch_with_few_fibers_is_a_step(make_images: MakeImages) -> None:
    """One image of 32×32 has 64 and 16 fibers; anomalib refuses layers with fewer than a step takes."""
    module = _fit(_make(fiber_batch_size=80), make_images(0, 5, False)[..., :32, :32])
    assert not any(
        value.equal(_decoders(_make())[name]) for name, value in _decoders(module).items() if "subnet" in name
    )


def test_it_finds_defects_and_survives_saving(make_images: MakeImages) -> None:
    module = _fit(_make(lr=1e-3), make_images(0, 12, False), epochs=2)
    images = torch.cat([make_images(1, 6, False), make_images(2, 6, True)])
    scores = module.model(images).pred_score
    assert roc_auc_score([0] * 6 + [1] * 6, scores.numpy()) > 0.9

    torch.manual_seed(9)
    fresh = Cflow(_backbone(), **SMALL, **OFF)
    fresh.load_state_dict(module.state_dict())
    assert fresh.eval().model(images).pred_score.equal(scores)


def test_logged_is_the_mean_loss_of_a_fiber_and_no_network_is_a_setting(make_images: MakeImages) -> None:
    module = _make(lr=0.0)
    images = make_images(0, 3, False)
    with torch.no_grad():
        maps = module.model.encoder(images)
        values = [module.model.log_likelihood(i, *module.model.fibers(maps[name])) for i, name in enumerate(LAYERS)]
    expected = -torch.nn.functional.logsigmoid(torch.cat(values)).mean()
    _fit(module, images, batch=3)
    torch.testing.assert_close(module.trainer.callback_metrics["train/loss"], expected)
    assert set(module.trainer.callback_metrics) == {"train/loss"}
    assert "backbone" not in module.hparams

"""Our DSR: anomalib's networks and stages, with the dictionary from a file."""

import copy
from pathlib import Path

import lightning
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models.image.dsr.loss import DsrSecondStageLoss
from anomalib.models.image.dsr.torch_model import DiscreteLatentModel
from anomalib.models.image.dsr.torch_model import DsrModel as AnomalibDsrModel

from harness.errors import WeightsError
from harness.models.components.focal import FocalLoss
from harness.models.dsr import Dsr
from harness.models.dsr.loss import SecondStageLoss, ThirdStageLoss
from harness.models.dsr.torch_model import DsrModel, LatentModel

OFF = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of untrained weights."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("dsr") / "dictionary.pckl"
    torch.save(AnomalibDsrModel().discrete_latent_model.state_dict(), path)
    return path


class _Data(lightning.LightningDataModule):
    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self._images = images

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader([ImageBatch(image=self._images)], batch_size=None)


def _fit(module: Dsr, images: torch.Tensor, epochs: int) -> lightning.Trainer:
    torch.manual_seed(4)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=_Data(images))
    return trainer


@pytest.mark.parametrize("shape", [(6, 9), (8, 8)])
def test_anomalous_codes_are_anomalibs(shape: tuple[int, int]) -> None:
    features, codes = torch.randn(2, 5, 16, *shape), torch.randn(200, 16)
    mask = torch.zeros(5, 1, 4 * shape[0], 4 * shape[1])
    mask[1, :, 3:9, 2:20] = mask[2] = mask[4, :, -1, -1] = 1
    strength = torch.linspace(0.2, 1, 5)
    results = []
    for kind in (LatentModel, DiscreteLatentModel):
        torch.manual_seed(6)
        fake = kind.generate_fake_anomalies_joined(features[0], features[1], codes, mask, strength)
        results.append((fake, torch.get_rng_state()))
    assert results[0][0].equal(results[1][0])
    assert results[0][1].equal(results[1][1])
    assert not results[0][0].equal(features[1])


def test_a_training_pass_is_anomalibs() -> None:
    torch.manual_seed(0)
    theirs = AnomalibDsrModel().train()
    ours = DsrModel.of(copy.deepcopy(theirs))
    images, mask = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[0, :, 8:40, 16:30] = 1
    outputs = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        with torch.no_grad():
            outputs.append(model(images, mask))
    for name, value in outputs[0].items():
        torch.testing.assert_close(value, outputs[1][name], rtol=1e-3, atol=1e-4)

    arguments = [outputs[0][name] for name in ("recon_feat_hi", "recon_feat_lo", "embedding_bot", "embedding_top")]
    arguments += [images, outputs[0]["obj_spec_image"], outputs[0]["anomaly_map"], outputs[0]["true_anomaly_map"]]
    loss, reference = SecondStageLoss(), DsrSecondStageLoss()
    reference.focal_loss = FocalLoss()
    torch.testing.assert_close(loss(*arguments), reference(*arguments))
    torch.testing.assert_close(sum(loss.parts.values()), reference(*arguments))


def test_the_stages_train_what_they_should(dictionary: Path) -> None:
    images = torch.rand(2, 3, 64, 96)
    changed = []
    for epochs in (1, 2):  # int(0.7 · 1) = 0 epochs and int(0.7 · 2) = 1 epoch before the last stage
        torch.manual_seed(3)
        module = Dsr(dictionary, width=8, **OFF)
        before = copy.deepcopy(module.model.state_dict())
        trainer = _fit(module, images, epochs)
        after = module.model.state_dict()
        moved = {name.split(".")[0] for name, value in after.items() if not value.equal(before[name])}
        changed.append(moved - {"discrete_latent_model"})
        parts = {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert sum(value for name, value in parts.items() if name != "train/loss") == pytest.approx(parts["train/loss"])

    detector = {"subspace_restriction_module_hi", "subspace_restriction_module_lo", "anomaly_detection_module"}
    assert changed[0] == {"upsampling_module"}
    assert changed[1] == detector | {"upsampling_module", "image_reconstruction_network"}
    expected = torch.load(dictionary, weights_only=True)
    latent = module.model.discrete_latent_model
    assert all(value.equal(expected[name]) for name, value in latent.state_dict().items())
    assert not any(parameter.requires_grad for parameter in latent.parameters())


def test_scores_survive_saving(dictionary: Path) -> None:
    module = Dsr(dictionary, width=8, **OFF)
    _fit(module, torch.rand(2, 3, 64, 64), 1)
    fresh = Dsr("not/read/for/a/checkpoint", width=8, **OFF)
    fresh.load_state_dict(module.state_dict())
    images = torch.rand(3, 3, 64, 96)
    with torch.no_grad():
        expected, result = module.eval().model(images), fresh.eval().model(images)
        alone = fresh.model(images[2:])
    assert result.pred_score.equal(expected.pred_score) and result.anomaly_map.equal(expected.anomaly_map)
    assert alone.pred_score.shape == (1,)
    torch.testing.assert_close(alone.pred_score, result.pred_score[2:])


def test_a_wrong_dictionary_is_an_error(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="do not fit DSR's dictionary"):
        _fit(Dsr(tmp_path / "other.pth", width=8, **OFF), torch.rand(2, 3, 64, 64), 1)


def test_calling_everything_anomalous_costs() -> None:
    """With the present kornia it costs nothing in anomalib."""
    wrong = torch.tensor([0.0, 1.0])[:, None, None].expand(1, 2, 8, 8)  # probabilities, as the network gives
    (p,) = torch.softmax(torch.tensor([0.0, 1.0]), 0)[:1]
    expected = -((1 - p) ** 2) * torch.log(p)
    torch.testing.assert_close(ThirdStageLoss()(wrong, torch.zeros(1, 1, 8, 8)), expected, atol=1e-4, rtol=0)
    assert expected > 0.69

"""Our DRAEM: anomalib's training, textures from a folder or none, and no downloads."""

from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models import Draem as AnomalibDraem
from anomalib.models.image.draem.loss import DraemLoss as AnomalibDraemLoss
from PIL import Image

from harness.errors import ConfigError, WeightsError
from harness.models.components.focal import FocalLoss
from harness.models.draem import Draem
from harness.models.draem.loss import DraemLoss
from harness.models.draem.torch_model import build_draem

OFF = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    """A folder of four textures in two classes."""
    generator = np.random.default_rng(0)
    for name in ("dtd/b/1.jpg", "dtd/a/2.jpg", "dtd/a/1.jpg", "dtd/b/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path / "dtd"


def _fit(module: AnomalibDraem, images: torch.Tensor) -> lightning.Trainer:
    torch.manual_seed(4)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [ImageBatch(image=some) for some in images.split(2)]
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return trainer


def test_the_same_seed_trains_anomalibs_network(textures: Path) -> None:
    """With anomalib's own step, and its width replaced by ours; the same textures in the same order."""
    images = torch.rand(4, 3, 32, 64)
    states, losses = [], []
    for make in (lambda: Draem(textures, 8, **OFF), lambda: AnomalibDraem(textures, **OFF)):
        torch.manual_seed(3)
        module = make()
        torch.manual_seed(5)
        module.model = build_draem(8)
        module.augmenter.anomaly_source_paths.sort()
        module.loss.focal_loss = FocalLoss()
        trainer = _fit(module, images)
        states.append(module.model.state_dict())
        losses.append(trainer.callback_metrics)
    assert all(value.equal(states[1][name]) for name, value in states[0].items())
    torch.testing.assert_close(losses[0]["train/loss"], losses[1]["train_loss_epoch"])
    assert set(losses[0]) == {"train/loss", "train/loss_l2", "train/loss_ssim", "train/loss_focal"}


def test_the_loss_is_that_of_the_paper_and_the_sum_of_its_parts() -> None:
    """anomalib's, but for the background's share of the focal loss."""
    image, reconstruction = torch.rand(2, 2, 3, 24, 32)
    mask = (torch.rand(2, 1, 24, 32) > 0.7).float()
    logits = torch.randn(2, 2, 24, 32)
    loss = DraemLoss()
    total = loss(image, reconstruction, mask, logits)
    everywhere = torch.ones_like(mask)
    theirs = AnomalibDraemLoss()(
        image, reconstruction, everywhere, 60 * torch.tensor([-1.0, 1.0])[:, None, None] * everywhere
    )
    torch.testing.assert_close(theirs, loss.parts["l2"] + loss.parts["ssim"])  # nothing is wrong with the mask here
    torch.testing.assert_close(sum(loss.parts.values()), total)
    torch.testing.assert_close(loss.parts["l2"], (image - reconstruction).square().mean())
    p_true = logits.softmax(1).gather(1, mask.long())  # focal loss: −(1 − p)² log p of the true class
    torch.testing.assert_close(loss.parts["focal"], (-((1 - p_true) ** 2) * p_true.log()).mean())


def test_calling_everything_anomalous_costs() -> None:
    """With the present kornia it costs nothing in anomalib."""
    image, mask = torch.rand(1, 3, 24, 24), torch.zeros(1, 1, 24, 24)
    logits = torch.tensor([-4.0, 4.0])[:, None, None].expand(1, 2, 24, 24)
    loss = DraemLoss()
    loss(image, image, mask, logits)
    torch.testing.assert_close(loss.parts["focal"], torch.tensor(8.0), atol=0.02, rtol=0)


def test_textures_come_from_the_folder_in_one_order(textures: Path) -> None:
    paths = Draem(str(textures), 8, **OFF).augmenter.anomaly_source_paths
    assert [path.relative_to(textures).as_posix() for path in paths] == ["a/1.jpg", "a/2.jpg", "b/0.png", "b/1.jpg"]


def test_a_folder_without_images_and_no_folder_are_errors_and_nothing_is_downloaded(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no images"):
        Draem(tmp_path / "empty", 8, **OFF)
    with pytest.raises(WeightsError, match="is no folder"):
        Draem(tmp_path / "missing", 8, **OFF)
    assert not (tmp_path / "missing").exists()


def test_without_textures_anomalies_are_of_noise_and_the_opacity_is_a_range() -> None:
    module = Draem(width=8, beta=[0.1, 1.0], **OFF)  # a list, as YAML gives it
    assert module.augmenter.anomaly_source_paths == []
    assert module.augmenter.blend_factor == (0.1, 1.0)
    images = torch.full((16, 3, 64, 64), 0.5)
    augmented, masks = module.augmenter(images)
    assert augmented.isfinite().all()
    anomalous = masks.flatten(1).any(1)
    assert 0 < anomalous.sum() < 16  # half of them
    changed = (augmented != images).any(1, keepdim=True)
    assert not (changed & (masks == 0)).any()


def test_scores_survive_saving_and_an_odd_width_is_an_error() -> None:
    first, second = Draem(width=8, **OFF).eval(), Draem(width=8, **OFF).eval()
    images = torch.rand(3, 3, 32, 64)
    with torch.no_grad():
        expected = first.model(images)
        second.load_state_dict(first.state_dict())
        result = second.model(images)
        alone = second.model(images[2:])
    assert result.pred_score.equal(expected.pred_score) and result.pred_score.shape == (3,)
    torch.testing.assert_close(alone.pred_score, result.pred_score[2:])
    with pytest.raises(ConfigError, match="7"):
        build_draem(7)


def test_sspcab_works_in_any_width() -> None:
    trainer = _fit(Draem(width=16, enable_sspcab=True, **OFF), torch.rand(2, 3, 32, 32))
    parts = trainer.callback_metrics
    assert parts["train/loss"] > sum(value for name, value in parts.items() if name != "train/loss")

"""Our EfficientAD: anomalib's networks, the statistics and the schedule around them."""

import copy
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models import EfficientAd as AnomalibEfficientAd
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel as AnomalibEfficientAdModel
from anomalib.models.image.efficient_ad.torch_model import SmallPatchDescriptionNetwork
from PIL import Image
from torch.utils.data import DataLoader

from harness.errors import ConfigError, WeightsError
from harness.models.efficient_ad import EfficientAd
from harness.models.efficient_ad.torch_model import EfficientAdModel

CHANNELS = 8
SIZE = (128, 144)
OFF = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of untrained weights."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save(SmallPatchDescriptionNetwork(CHANNELS).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def imagenette(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images in two classes."""
    folder = tmp_path_factory.mktemp("imagenette")
    generator = np.random.default_rng(0)
    for name in ("train/dog/1.png", "train/dog/2.png", "val/church/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(folder / name)
    return folder


def _batches(images: torch.Tensor, size: int, labels: list[int] | None = None, workers: int = 0) -> DataLoader:
    targets = torch.tensor(labels or [0] * len(images))
    parts = zip(images.split(size), targets.split(size), strict=True)
    return DataLoader([ImageBatch(image=some, gt_label=label) for some, label in parts],
                      batch_size=None, num_workers=workers, persistent_workers=workers > 0)  # fmt: skip


class _Data(lightning.LightningDataModule):
    train_batch_size = 1

    def __init__(self, train: torch.Tensor, validation: torch.Tensor | None, workers: int) -> None:
        super().__init__()
        self._train, self._validation, self._workers = train, validation, workers

    def train_dataloader(self) -> DataLoader:
        return _batches(self._train, 1, workers=self._workers)

    def val_dataloader(self) -> DataLoader | list:
        return [] if self._validation is None else _batches(self._validation, 2)


def _fit(
    module: EfficientAd, train: torch.Tensor, validation: torch.Tensor | None = None, workers: int = 0
) -> lightning.Trainer:
    torch.manual_seed(4)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0 if validation is None else 1.0,
    )
    trainer.fit(module, datamodule=_Data(train, validation, workers))
    return trainer


def _make(teacher: Path, imagenette: Path, **settings: object) -> EfficientAd:
    torch.manual_seed(3)
    return EfficientAd(teacher, imagenette, teacher_out_channels=CHANNELS, **{**OFF, **settings})


def _quantiles(module: EfficientAd, images: torch.Tensor) -> dict[str, float]:
    """The quantiles of the maps of images, one at a time, by NumPy."""
    with torch.no_grad():
        maps = [module.model.get_maps(image[None]) for image in images]
    student, autoencoder = (np.stack([pair[i].numpy() for pair in maps]) for i in (0, 1))
    values = {"qa_st": (student, 0.9), "qb_st": (student, 0.995), "qa_ae": (autoencoder, 0.9)}
    values["qb_ae"] = (autoencoder, 0.995)
    return {name: float(np.quantile(of.astype(np.float64), q)) for name, (of, q) in values.items()}


def test_losses_and_maps_are_anomalibs() -> None:
    torch.manual_seed(0)
    theirs = AnomalibEfficientAdModel(teacher_out_channels=CHANNELS)
    ours = EfficientAdModel.of(copy.deepcopy(theirs))
    image, other = torch.rand(2, 1, 3, 256, 256)
    results = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        with torch.no_grad():
            results.append((*model.train()(image, other), *model.eval()(image)[:1], model(image).anomaly_map))
    for mine, reference in zip(*results, strict=True):
        assert mine.flatten().equal(reference.flatten())
    assert ours(image).pred_score.shape == (1,)  # anomalib's is 1×1


def test_statistics_are_anomalibs(teacher: Path, imagenette: Path) -> None:
    module = _make(teacher, imagenette)
    module.prepare_pretrained_model()
    theirs = AnomalibEfficientAd(teacher_out_channels=CHANNELS, **OFF)
    theirs.model = module.eval().model
    images = torch.rand(3, 3, 128, 128)
    loader = _batches(images, 2, [0, 1, 0])
    for name in ("teacher_channel_mean_std", "map_norm_quantiles"):
        ours, expected = getattr(module, name)(loader), getattr(theirs, name)(loader)
        assert ours.keys() == expected.keys()
        for key, value in ours.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6)


def test_maps_are_normalised_on_validation_images_and_scores_survive_saving(teacher: Path, imagenette: Path) -> None:
    images = torch.rand(5, 3, *SIZE)
    module = _make(teacher, imagenette)
    trainer = _fit(module, images[:2], images[2:])
    expected = _quantiles(module.eval(), images[2:])
    for name, value in module.model.quantiles.items():
        assert value.item() == pytest.approx(expected[name], rel=1e-4)

    parts = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert set(parts) == {"train/loss", "train/loss_st", "train/loss_ae", "train/loss_stae"}
    assert sum(parts.values()) == pytest.approx(2 * parts["train/loss"])
    weights = torch.load(teacher, weights_only=True)
    assert all(value.equal(weights[name]) for name, value in module.model.teacher.state_dict().items())

    fresh = _make(Path("not/read"), Path("for/a/checkpoint"))
    fresh.load_state_dict(module.state_dict())
    with torch.no_grad():
        together, again = module.model(images), fresh.eval().model(images)
        alone = fresh.model(images[4:])
    assert again.pred_score.equal(together.pred_score)
    assert again.anomaly_map.equal(together.anomaly_map) and again.anomaly_map.shape == (5, 1, *SIZE)
    torch.testing.assert_close(alone.pred_score, together.pred_score[4:], rtol=1e-4, atol=1e-5)


def test_maps_are_normalised_on_the_training_set_where_asked_to(teacher: Path, imagenette: Path) -> None:
    images = torch.rand(3, 3, 128, 128)
    module = _make(teacher, imagenette, normalise_on="train")
    trainer = _fit(module, images)
    assert module.training
    expected = _quantiles(module.eval(), images)
    for name, value in module.model.quantiles.items():
        assert value.item() == pytest.approx(expected[name], rel=1e-4)
    (schedule,) = trainer.lr_scheduler_configs
    assert (schedule.interval, schedule.scheduler.step_size) == ("step", int(0.95 * 3))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-5)  # after the second of three steps


def test_the_same_seed_trains_the_same_student(teacher: Path, imagenette: Path) -> None:
    images = torch.rand(2, 3, 128, 128)
    states = []
    for _ in range(2):
        module = _make(teacher, imagenette, normalise_on="train")
        _fit(module, images)
        states.append(module.state_dict())
    assert all(value.equal(states[1][name]) for name, value in states[0].items())


def test_loader_workers_change_nothing(teacher: Path, imagenette: Path) -> None:
    """anomalib's takes its first look at the batches that the trainer has begun: with workers one is then missing."""
    images = torch.rand(3, 3, 128, 128)
    states = []
    for workers in (0, 1):
        module = _make(teacher, imagenette, normalise_on="train")
        trainer = _fit(module, images, workers=workers)
        assert trainer.global_step == len(images)
        states.append(module.state_dict())
    assert all(value.equal(states[1][name]) for name, value in states[0].items())


def test_what_cannot_work_is_an_error(teacher: Path, imagenette: Path, tmp_path: Path) -> None:
    images = torch.rand(1, 3, 128, 128)
    with pytest.raises(ConfigError, match="holdout"):
        _fit(_make(teacher, imagenette), images)
    with pytest.raises(ConfigError, match="normalise_on=test"):
        _make(teacher, imagenette, normalise_on="test")
    with pytest.raises(ConfigError, match="100×128"):
        _make(teacher, imagenette).eval().model(images[:, :, :100])
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="do not fit EfficientAD's small teacher"):
        _fit(_make(tmp_path / "other.pth", imagenette, normalise_on="train"), images)
    with pytest.raises(WeightsError, match="holds no images in folders by class"):
        _fit(_make(teacher, tmp_path, normalise_on="train"), images)

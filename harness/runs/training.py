"""Train one run's model, evaluate its epochs and write down what it leaves behind."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from harness.data.augment import Augmented, build_augmentation
from harness.data.geometry import Geometry, build_geometry
from harness.data.protocols import Split, one_class
from harness.data.torch_dataset import SampleDataset
from harness.errors import ConfigError
from harness.features.attach import Served, attach
from harness.identity import Identity, derive_seed, epochs
from harness.models.adapter import build_model, is_trainable
from harness.runs import artifacts, environment
from harness.runs.allocator import return_freed_memory
from harness.runs.evaluate import Evaluation
from harness.runs.loaders import Passes, Placeholders, in_order, test_loader, train_loader
from harness.runs.progress import live_line
from harness.runs.recorder import EpochRecorder, best_epoch
from harness.runs.timing import measure
from harness.runs.tracking import TrackedRun

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule


def train(config: DictConfig, identity: Identity, run: TrackedRun, gpu: int = 0) -> dict[str, float]:
    """Train and evaluate inside an MLflow run, on the GPU of that index if on any; return the final metrics."""
    return_freed_memory()
    environment.reset_peak_memory()
    setup = _set_up(config, identity, torch_device(config.trainer.device, gpu))
    run.tag(setup.tags())
    if config.timing:
        return _time(config, setup, run)
    evaluation = _evaluation(config, identity, setup)
    with live_line(f"{config.method.name}/{config.category}/{config.seed}", epochs(config)) as report:
        recorder = EpochRecorder(run, setup.loaders[1], evaluation, report, setup.served.saved_seconds)
        seconds = _fit(config, setup, [recorder]) - recorder.evaluation_seconds
    assert recorder.predictions is not None
    final = _times(setup.served, recorder, seconds) | environment.peak_memory() | _oracle(recorder.history)
    run.log(final, step=len(recorder.history) - 1)
    with tempfile.TemporaryDirectory() as folder:
        artifacts.write(Path(folder), config, identity.category, setup.split.test, recorder.predictions, setup.geometry)
        run.artifacts(Path(folder))
    return recorder.history[-1] | final


def torch_device(name: str, index: int = 0) -> torch.device:
    """Return the device that `trainer.device` means here: `auto` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(name, index) if name == "cuda" else torch.device(name)


@dataclass
class _Setup:
    """What a run works with."""

    split: Split
    geometry: Geometry
    model: AnomalibModule
    device: torch.device
    served: Served
    loaders: tuple[Any, Any]  # training and test images, or their placeholders
    trainer: Trainer | None = None

    def tags(self) -> dict[str, str]:
        """Return what a run says about how it is computed."""
        tags = {
            "harness.device": environment.device_name(self.device.type),
            "harness.trainable": str(is_trainable(self.model)).lower(),
            "harness.features": "cached" if self.served.cached else "computed",
        }
        return tags if self.served.cached else tags | {"harness.features_reason": self.served.reason}


def _set_up(config: DictConfig, identity: Identity, device: torch.device) -> _Setup:
    split = one_class(identity.category)
    geometry = build_geometry(config.preprocess)
    torch.set_num_threads(config.trainer.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A debugging aid that costs up to 8 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    seed = derive_seed("train", config.seed, identity.fingerprint, config.category)
    lightning.seed_everything(seed, verbose=False)
    model = build_model(config)
    jobs = os.environ.get(environment.JOBS, "1")
    if config.timing and jobs != "1":
        raise ConfigError(f"timing=true measures times, which {jobs} runs at once would spoil: leave launcher=serial.")
    name = f"{environment.device_name(device.type)}, {config.trainer.threads} threads, {jobs} at once"
    images = [*split.train, *split.test]
    served = attach(model, config, identity.weights, images, geometry, device, name)
    loaders = _placeholders if served.cached else _images
    return _Setup(split, geometry, model, device, served, loaders(config, identity, split, device))


def _placeholders(config: DictConfig, identity: Identity, split: Split, device: torch.device) -> tuple[Any, Any]:
    method, size = config.method, config.preprocess.size
    order = Passes(len(split.train), method.batch_size, method.passes, _order_seed(config, identity))
    batches = in_order(len(split.test), config.trainer.eval_batch_size)
    return (
        Placeholders(split.train, 0, size, device, order),
        Placeholders(split.test, len(split.train), size, device, batches),
    )


def _images(config: DictConfig, identity: Identity, split: Split, device: torch.device) -> tuple[Any, Any]:
    del device
    preprocess = OmegaConf.to_yaml(config.preprocess, resolve=True)
    images, test = _datasets(identity, split, preprocess, config.trainer.cache_images)
    augmentation = build_augmentation(config.augment)
    train = Augmented(images, augmentation, config.seed) if augmentation else images
    seed, method, workers = _order_seed(config, identity), config.method, config.trainer.workers
    return (
        train_loader(train, method.batch_size, method.passes, seed, workers),
        test_loader(test, config.trainer.eval_batch_size, workers),
    )


def _order_seed(config: DictConfig, identity: Identity) -> int:
    return derive_seed("order", config.seed, identity.fingerprint, config.category, config.protocol.name)


_kept_datasets: dict[tuple[str, str, bool], tuple[SampleDataset, SampleDataset]] = {}


def _datasets(identity: Identity, split: Split, preprocess: str, cache: bool) -> tuple[SampleDataset, SampleDataset]:
    """Return training and test images, kept from run to run while data and preprocessing stay the same."""
    key = (identity.fingerprint, preprocess, cache)
    if key not in _kept_datasets:
        _kept_datasets.clear()
        geometry = build_geometry(OmegaConf.create(preprocess))
        train = SampleDataset(identity.category, split.train, geometry, cache=cache)
        test = SampleDataset(identity.category, split.test, geometry, cache=cache)
        if cache:  # now, and not in the training time of the first method of a grid
            train.load()
        _kept_datasets[key] = train, test
    return _kept_datasets[key]


_kept_evaluations: dict[tuple[str, ...], Evaluation] = {}


def _evaluation(config: DictConfig, identity: Identity, setup: _Setup) -> Evaluation:
    """Return the ground truth, kept from run to run while it stays the same."""
    preprocess = OmegaConf.to_yaml(config.preprocess, resolve=True)
    resolution, frame = config.metrics.resolution, config.metrics.frame
    key = (identity.fingerprint, preprocess, config.protocol.name, resolution, frame)
    if key not in _kept_evaluations:
        _kept_evaluations.clear()
        _kept_evaluations[key] = Evaluation(identity.category, setup.split.test, setup.geometry, resolution, frame)
    return _kept_evaluations[key]


def _fit(config: DictConfig, setup: _Setup, callbacks: list[Any]) -> float:
    """Train, and return the seconds that it took, the callbacks' included.

    On Ctrl-C Lightning would leave the process, and ignore further ones: here the sweep has the last word.
    """
    trainer = setup.trainer = _trainer(config, setup, callbacks)
    started = time.perf_counter()
    try:
        trainer.fit(setup.model, setup.loaders[0])
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
    return time.perf_counter() - started


def _trainer(config: DictConfig, setup: _Setup, callbacks: list[Any]) -> Trainer:
    """Return a Trainer that takes from the model what belongs to its method, and nothing that is the user's."""
    own = {key: value for key, value in setup.model.trainer_arguments.items() if key == "gradient_clip_val"}
    return Trainer(
        max_epochs=epochs(config),
        accelerator="gpu" if setup.device.type == "cuda" else setup.device.type,
        devices=1 if setup.device.index is None else [setup.device.index],
        precision=config.trainer.precision,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **own,
    )


def _times(served: Served, recorder: EpochRecorder, seconds: float) -> dict[str, float]:
    """Return the times of a run that computes its features: what stored ones saved is added again."""
    assert recorder.predictions is not None
    saved = served.saved_seconds()
    per_image = recorder.predictions.seconds_per_image + served.seconds_per_image
    times = {
        "time/train": seconds + saved - recorder.evaluation_saved_seconds,
        "time/evaluation": recorder.evaluation_seconds + recorder.evaluation_saved_seconds,
        "speed/images_per_second": 1 / per_image,
    }
    return times | {"time/saved": saved} if served.cached else times


def _time(config: DictConfig, setup: _Setup, run: TrackedRun) -> dict[str, float]:
    """Train without evaluation, then measure inference."""
    _kept_evaluations.clear()
    seconds = _fit(config, setup, [])
    assert setup.trainer is not None
    times = {"timing/train": seconds, "timing/train_peak_memory": environment.peak_memory()["memory/host_peak"]}
    with setup.trainer.precision_plugin.forward_context():
        times |= measure(setup.model.to(setup.device), setup.loaders[1], setup.device)
    run.log(times, step=epochs(config) - 1)
    return times


def _oracle(history: list[dict[str, float]]) -> dict[str, float]:
    best = best_epoch(history)
    if best is None:
        return {}
    chosen = {
        f"oracle/{name.removeprefix('test/')}": value
        for name, value in history[best].items()
        if name.startswith("test/")
    }
    return chosen | {"oracle/epoch": float(best)}

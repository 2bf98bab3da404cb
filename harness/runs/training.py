"""Train one run's model, evaluate its epochs and write down what it leaves behind."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from harness.data.geometry import Geometry, build_geometry
from harness.data.protocols import Split
from harness.data.records import Sample
from harness.features.attach import Served, attach
from harness.identity import Identity, derive_seed, epochs
from harness.metrics import Confusion
from harness.models.adapter import build_model, class_names, is_trainable
from harness.runs import artifacts, environment
from harness.runs.data import RunData, draw, image_data, images_of, placeholder_data
from harness.runs.evaluate import Evaluation
from harness.runs.overview import folder_size
from harness.runs.progress import live_line
from harness.runs.recorder import EpochRecorder, Part, best_epoch
from harness.runs.thresholds import as_metrics, thresholds
from harness.runs.timing import measure
from harness.runs.tracking import ARTIFACTS, TrackedRun
from harness.runs.watch import Watcher

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule

LAST = "last"  # the selection that results are of


def train(
    config: DictConfig, identity: Identity, run: TrackedRun, gpu: int, watcher: Watcher | None = None
) -> dict[str, float]:
    """Train and evaluate inside an MLflow run, on the GPU of that index if on any; return the final metrics."""
    environment.reset_peak_memory()
    setup = _set_up(config, identity, torch_device(config.trainer.device, gpu))
    run.tag(setup.tags())
    if config.timing:
        return _time(config, setup, run)
    parts = _parts(config, identity, setup)
    with live_line(f"{config.method.name}/{config.category}/{config.seed}", epochs(config)) as report:
        recorder = EpochRecorder(run, parts, report, setup.served.saved_seconds, watcher)
        seconds = _fit(config, setup, [recorder]) - recorder.evaluation_seconds
    chosen = _thresholds(parts, recorder)
    final = _times(setup.served, recorder, seconds) | environment.peak_memory() | _selections(recorder.history)
    final |= as_metrics(chosen[LAST])
    final |= next(p.evaluation.recalls(recorder.predictions[p.name]) for p in parts if p.name == "test")
    with tempfile.TemporaryDirectory() as folder:
        scored = [(part.name, part.samples, recorder.predictions[part.name]) for part in parts]
        artifacts.write(Path(folder), config, identity.category, setup.split, scored, setup.geometry)
        artifacts.write_thresholds(Path(folder), chosen)
        run.tag({ARTIFACTS: str(folder_size(Path(folder)))})
        run.artifacts(Path(folder))
    run.log(final, step=len(recorder.history) - 1)
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
    data: RunData
    trainer: Trainer | None = None

    def tags(self) -> dict[str, str]:
        """Return what a run says about how it is computed."""
        tags = {
            "harness.device": environment.device_name(self.device.type),
            "harness.trainable": str(is_trainable(self.model)).lower(),
            "harness.features": "cached" if self.served.cached else "computed",
        }
        if networks := getattr(self.model, "harness_weights", None):
            tags["harness.networks"] = networks
        return tags if self.served.cached else tags | {"harness.features_reason": self.served.reason}


def _set_up(config: DictConfig, identity: Identity, device: torch.device) -> _Setup:
    split = draw(config, identity)
    geometry = build_geometry(config.preprocess)
    torch.set_num_threads(config.trainer.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A debugging aid that costs up to 8 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    seed = derive_seed("train", config.seed, identity.fingerprint, config.category)
    lightning.seed_everything(seed, verbose=False)
    model = build_model(config, class_names(config, split.train))
    jobs = os.environ.get(environment.JOBS, "1")
    name = f"{environment.device_name(device.type)}, {config.trainer.threads} threads, {jobs} at once"
    served = attach(model, config, identity.weights, images_of(split), geometry, device, name)
    if served.cached:
        data = placeholder_data(config, identity, split, device)
    else:
        data = image_data(config, identity, split, geometry)
    return _Setup(split, geometry, model, device, served, data)


_kept_evaluations: dict[tuple[str, ...], Evaluation] = {}


def _parts(config: DictConfig, identity: Identity, setup: _Setup) -> list[Part]:
    """Return what is scored after every epoch: the test images, and the validation images of a protocol with some."""
    scored = [("test", setup.split.test, setup.data.test), ("val", setup.split.validation, setup.data.validation)]
    scored = [part for part in scored if part[1]]
    wanted = {_ground_truth(config, identity, samples) for _, samples, _ in scored}
    for key in set(_kept_evaluations) - wanted:  # before others take as much memory
        del _kept_evaluations[key]
    return [
        Part(name, samples, loader, _evaluation(config, identity, samples, setup.geometry))
        for name, samples, loader in scored
    ]


def _ground_truth(config: DictConfig, identity: Identity, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return what tells the ground truth of images from any other."""
    preprocess = OmegaConf.to_yaml(config.preprocess, resolve=True)
    names = (sample.name for sample in samples)
    return (identity.fingerprint, preprocess, config.metrics.resolution, config.metrics.frame, *names)


def _evaluation(config: DictConfig, identity: Identity, samples: Sequence[Sample], geometry: Geometry) -> Evaluation:
    """Return the ground truth of images, kept from run to run while it stays the same."""
    key = _ground_truth(config, identity, samples)
    if key not in _kept_evaluations:
        resolution, frame = config.metrics.resolution, config.metrics.frame
        _kept_evaluations[key] = Evaluation(identity.category, samples, geometry, resolution, frame)
    return _kept_evaluations[key]


def _fit(config: DictConfig, setup: _Setup, callbacks: list[Any]) -> float:
    """Train, and return the seconds that it took, the callbacks' included.

    On Ctrl-C Lightning would leave the process, and ignore further ones: here the sweep has the last word.
    """
    trainer = setup.trainer = _trainer(config, setup, callbacks)
    started, on_interrupt = time.perf_counter(), signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(setup.model, datamodule=setup.data)
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, on_interrupt)
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
        limit_val_batches=1.0 if setup.data.validates else 0,
        **own,
    )


def _times(served: Served, recorder: EpochRecorder, seconds: float) -> dict[str, float]:
    """Return the times of a run that computes its features: what stored ones saved is added again."""
    saved = served.saved_seconds()
    per_image = recorder.predictions["test"].seconds_per_image + served.seconds_per_image
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
        times |= measure(setup.model.to(setup.device), setup.data.test, setup.device, config.quick)
    run.log(times, step=epochs(config) - 1)
    return times


def _selected(history: list[dict[str, float]]) -> dict[str, int]:
    """Return the epochs that the test set (`oracle`) and the validation images would choose, where they can."""
    judged = {"oracle": best_epoch(history, "test"), "validation": best_epoch(history, "val")}
    return {selection: epoch for selection, epoch in judged.items() if epoch is not None}


def _selections(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the test metrics of the selected epochs."""
    chosen: dict[str, float] = {}
    for selection, epoch in _selected(history).items():
        metrics = {k.removeprefix("test/"): v for k, v in history[epoch].items() if k.startswith("test/")}
        chosen |= {f"{selection}/{name}": value for name, value in metrics.items()}
        chosen[f"{selection}/epoch"] = float(epoch)
    return chosen


def _thresholds(parts: Sequence[Part], recorder: EpochRecorder) -> dict[str, dict[str, tuple[float, Confusion]]]:
    """Return the thresholds at the last epoch and at the selected ones: selection -> rule -> threshold."""
    epochs_of = {LAST: len(recorder.history) - 1} | _selected(recorder.history)
    labels = {part.name: part.evaluation.labels for part in parts}
    return {
        selection: thresholds(
            (labels["test"], recorder.scores["test"][epoch]),
            (labels["val"], recorder.scores["val"][epoch]) if "val" in labels else None,
        )
        for selection, epoch in epochs_of.items()
    }

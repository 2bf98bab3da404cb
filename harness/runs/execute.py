"""Execute one run from its configuration: name it, skip what is finished, train, evaluate, record."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import time
import traceback
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

import harness
from harness.checkout import git_commit
from harness.data.checks import check_category
from harness.data.protocols import one_class
from harness.data.records import Category
from harness.errors import DataError, HarnessError
from harness.identity import Identity, derive_seed, epochs, identify
from harness.runs import environment
from harness.runs.outcome import Outcome
from harness.runs.tracking import BusyError, Store, TrackedRun
from harness.schema import flatten, one_line, validate
from harness.uri import masked

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule
    from lightning.pytorch import Trainer
    from torch.utils.data import DataLoader

    from harness.runs.recorder import EpochRecorder


def execute(config: DictConfig) -> Outcome:
    """Run one cell of a grid unless it is finished or at work elsewhere; never raises but for an interrupt."""
    what: dict[str, Any] = {"category": str(config.category), "seed": config.seed}
    _quieten()
    try:
        what["method"] = config.method.name
        what["dataset"] = config.dataset.name or config.dataset.layout
        validate(config)
        identity = identify(config)
        what |= {"dataset": identity.name, "run_key": identity.key}
        store = open_store(config.tracking.uri, config.tracking.directory)
        if done := store.finished(identity.key):
            return Outcome("skipped", run_id=done.run_id, metrics=done.metrics, **what)
        with store.claim(identity.key):
            if done := store.finished(identity.key):  # by another process, between the look and the claim
                return Outcome("skipped", run_id=done.run_id, metrics=done.metrics, **what)
            _refuse_broken(identity)
            run_id, metrics = _tracked(config, identity, store)
        return Outcome("finished", run_id=run_id, metrics=metrics, **what)
    except BusyError as busy:
        return Outcome("busy", reason=str(busy), **what)
    except Exception as error:
        return Outcome("failed", reason=_explain(error), **what)


@lru_cache(maxsize=4)
def open_store(uri: str, directory: str) -> Store:
    """Return the store of this process for a tracking URI."""
    return Store(uri, Path(directory))


_problems: dict[str, str] = {}  # of the categories checked in this process, by fingerprint; empty: sound


def _refuse_broken(identity: Identity) -> None:
    """Check every image and mask of a category once a process, before the first run on it."""
    if identity.fingerprint not in _problems:
        _problems[identity.fingerprint] = _list_problems(identity)
    if _problems[identity.fingerprint]:
        raise DataError(_problems[identity.fingerprint])


def _list_problems(identity: Identity) -> str:
    errors = [problem.text for problem in check_category(identity.category) if problem.severity == "error"]
    listed = "\n  ".join(errors)
    return f"{identity.name}/{identity.category.name} has {len(errors)} problem(s):\n  {listed}" if errors else ""


def _tracked(config: DictConfig, identity: Identity, store: Store) -> tuple[str, dict[str, float]]:
    """Train and evaluate inside an MLflow run; whatever goes wrong, the run says so."""
    name = f"{config.method.name}/{config.category}/{config.seed}"
    run = store.start(config.experiment, name, _params(config, identity), _tags(config, identity))
    try:
        metrics = _train(config, identity, run)
        run.finish()
    except BaseException as error:
        run.fail(_explain(error))
        raise
    finally:
        gc.collect()
    return run.run_id, metrics


def _train(config: DictConfig, identity: Identity, run: TrackedRun) -> dict[str, float]:
    from harness.data.geometry import build_geometry
    from harness.models.adapter import build_model, is_trainable
    from harness.runs import artifacts
    from harness.runs.evaluate import Evaluation
    from harness.runs.progress import live_line
    from harness.runs.recorder import EpochRecorder

    _quieten()  # again: importing Lightning sets its own levels
    environment.reset_peak_memory()
    split = one_class(identity.category)
    geometry = build_geometry(config.preprocess)
    loaders = _loaders(config, identity)
    evaluation = Evaluation(identity.category, split.test, geometry, config.metrics.resolution, config.metrics.frame)
    _seed_everything(config, derive_seed("train", config.seed, identity.fingerprint, config.category))
    model = build_model(config)
    total = epochs(config)
    with live_line(f"{config.method.name}/{config.category}/{config.seed}", total) as report:
        recorder = EpochRecorder(run, loaders[1], evaluation, report)
        trainer = _trainer(config, model, total, recorder)
        started = time.perf_counter()
        _fit(trainer, model, loaders[0])
        seconds = time.perf_counter() - started - recorder.evaluation_seconds
    assert recorder.predictions is not None
    run.tag({"harness.device": environment.device_name(trainer.strategy.root_device.type)})
    run.tag({"harness.trainable": str(is_trainable(model)).lower()})
    final = {"time/train": seconds, "time/evaluation": recorder.evaluation_seconds} | environment.peak_memory()
    final |= _speed(model.to(trainer.strategy.root_device), loaders[1], trainer)
    final |= _oracle(recorder.history)
    run.log(final, step=len(recorder.history) - 1)
    with tempfile.TemporaryDirectory() as folder:
        artifacts.write(Path(folder), config, identity.category, split.test, recorder.predictions, geometry)
        run.artifacts(Path(folder))
    return recorder.history[-1] | final


def _fit(trainer: Trainer, model: AnomalibModule, loader: DataLoader) -> None:
    """Train; on Ctrl-C Lightning would leave the process, and ignore further ones: here the sweep has the last word."""
    try:
        trainer.fit(model, loader)
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None


def _loaders(config: DictConfig, identity: Identity) -> tuple[DataLoader, DataLoader]:
    from harness.runs.loaders import test_loader, train_loader

    preprocess = OmegaConf.to_yaml(config.preprocess, resolve=True)
    train, test = _datasets(identity.category, identity.fingerprint, preprocess, config.trainer.cache_images)
    seed = derive_seed("order", config.seed, identity.fingerprint, config.category, config.protocol.name)
    workers = config.trainer.workers
    return (
        train_loader(train, config.method.batch_size, config.method.passes, seed, workers),
        test_loader(test, config.trainer.eval_batch_size, workers),
    )


_dataset_cache: dict[tuple[str, str, bool], Any] = {}


def _datasets(category: Category, content: str, preprocess: str, cache: bool) -> Any:
    """Return training and test images, kept from run to run while data and preprocessing stay the same."""
    from harness.data.geometry import build_geometry
    from harness.data.torch_dataset import SampleDataset

    key = (content, preprocess, cache)
    if key not in _dataset_cache:
        _dataset_cache.clear()
        geometry = build_geometry(OmegaConf.create(preprocess))
        split = one_class(category)
        _dataset_cache[key] = tuple(
            SampleDataset(category, samples, geometry, cache=cache) for samples in (split.train, split.test)
        )
        if cache:  # now, and not in the training time of the first method of a grid
            for _ in _dataset_cache[key][0]:
                pass
    return _dataset_cache[key]


def _seed_everything(config: DictConfig, seed: int) -> None:
    import lightning
    import torch

    torch.set_num_threads(config.trainer.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    lightning.seed_everything(seed, verbose=False)


def _trainer(config: DictConfig, model: AnomalibModule, total: int, recorder: EpochRecorder) -> Trainer:
    """Return a Trainer that takes from the model what belongs to its method, and nothing that is the user's."""
    from lightning.pytorch import Trainer

    own = {key: value for key, value in model.trainer_arguments.items() if key == "gradient_clip_val"}
    device = "gpu" if config.trainer.device == "cuda" else config.trainer.device
    return Trainer(
        max_epochs=total,
        accelerator=device,
        devices=1,
        precision=config.trainer.precision,
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **own,
    )


def _speed(model: Any, loader: DataLoader, trainer: Trainer) -> dict[str, float]:
    """Measure inference on images already in memory: one batch to warm up, then every test image, synchronised.

    The batch size is `trainer.eval_batch_size`; decoding and metrics are not in it.
    """
    import torch

    batches = [batch.image.to(model.device) for batch in loader]
    model.eval()

    def infer(images: torch.Tensor) -> None:
        model.model(model.pre_processor(images))

    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        infer(batches[0])
        _synchronise()
        started = time.perf_counter()
        for images in batches:
            infer(images)
        _synchronise()
    return {"speed/images_per_second": sum(map(len, batches)) / (time.perf_counter() - started)}


def _synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def _oracle(history: list[dict[str, float]]) -> dict[str, float]:
    from harness.runs.recorder import best_epoch

    best = best_epoch(history)
    if best is None:
        return {}
    chosen = {
        f"oracle/{name.removeprefix('test/')}": value
        for name, value in history[best].items()
        if name.startswith("test/")
    }
    return chosen | {"oracle/epoch": float(best)}


def _params(config: DictConfig, identity: Identity) -> dict[str, Any]:
    """Return the resolved configuration, flattened, without what is not of this run."""
    params = {key: value for key, value in flatten(config).items() if not key.startswith("grids")}
    return params | {"dataset.name": identity.name, "tracking.uri": masked(config.tracking.uri)}


def _tags(config: DictConfig, identity: Identity) -> dict[str, str]:
    return {
        "harness.run_key": identity.key,
        "harness.method": config.method.name,
        "harness.dataset": identity.name,
        "harness.category": config.category,
        "harness.protocol": config.protocol.name,
        "harness.seed": str(config.seed),
        "harness.weights": identity.weights,
        "harness.data_fingerprint": identity.fingerprint,
        "harness.git_commit": git_commit() or "none",
        "harness.version": harness.__version__,
        "harness.libraries": environment.libraries(),
    }


def _explain(error: BaseException) -> str:
    """Return the sentence that a user gets: ours as it is, memory with its remedy, the rest with its place."""
    if isinstance(error, HarnessError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "Out of memory: lower method.batch_size, trainer.eval_batch_size or preprocess.size."
    if isinstance(error, OSError) and error.errno == 28:
        return "The disk is full: free some space, then run the same command again."
    if os.environ.get("HYDRA_FULL_ERROR"):
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {one_line(error)[:500]} ({Path(frame.filename).name}:{frame.lineno})"


def _quieten() -> None:
    """Silence what the libraries say about themselves; what matters is said by the harness."""
    import logging
    import warnings

    for name in (
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "anomalib",
        "timm",
        "mlflow",
        "alembic",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")

"""Execute one run from its configuration: name it, skip what is finished, train, evaluate, record."""

from __future__ import annotations

import atexit
import gc
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import harness
from harness.checkout import git_commit
from harness.data.checks import CHECKS_VERSION, check_category
from harness.data.masks import sample_shape
from harness.errors import ConfigError, DataError, WindowError
from harness.identity import Identity, identify, tuned_on_test
from harness.runs import devices, environment
from harness.runs.allocator import keep_freed_memory
from harness.runs.outcome import Outcome
from harness.runs.tracking import ASKED, PATIENCE_SECONDS, BusyError, Store, TrackedRun
from harness.runs.watch import PrunedError, Watcher
from harness.schema import flatten, validate
from harness.sentences import sentence, told
from harness.uri import masked


def execute(config: DictConfig, watcher: Watcher | None = None) -> Outcome:
    """Run one cell of a grid unless it is finished or at work elsewhere; never raises but for an interrupt.

    A watcher sees every epoch, gives the MLflow run further tags, and may prune it.
    """
    what: dict[str, Any] = {}
    quieten()
    try:
        what = {"category": str(config.category), "seed": config.seed}
        what["method"] = config.method.name
        what["dataset"] = config.dataset.name or config.dataset.layout
        validate(config)
        _refuse_shared_timing(config)
        identity = identify(config)
        what |= {"dataset": identity.name, "run_key": identity.key}
        refuse_large_window(config, identity)
        store = open_store(**config.tracking)
        if done := store.finished(identity.key):
            if done.only_trial and watcher is None:
                store.tag(done.run_id, {ASKED: "true"})  # reports of everything leave out what only studies asked for
            return Outcome("skipped", run_id=done.run_id, metrics=done.metrics, **what)
        with devices.claim(config.trainer.device) as gpu, store.claim(identity.key):
            if done := store.finished(identity.key):  # by another process, between the look and the claim
                return Outcome("skipped", run_id=done.run_id, metrics=done.metrics, **what)
            _refuse_broken(identity, Path(config.tracking.directory))
            run_id, metrics = _tracked(config, identity, store, gpu, watcher)
        return Outcome("finished", run_id=run_id, metrics=metrics, **what)
    except BusyError as busy:
        return Outcome("busy", reason=str(busy), **what)
    except WindowError as error:
        return Outcome("failed", reason=str(error), lacks_pixels=True, **what)
    except PrunedError as pruned:
        return Outcome("pruned", reason=str(pruned), **what)
    except Exception as error:
        return Outcome("failed", reason=told(error), **what)


def _refuse_shared_timing(config: DictConfig) -> None:
    jobs = os.environ.get(environment.JOBS, "1")
    if config.timing and jobs != "1":
        raise ConfigError(f"timing=true measures times, which {jobs} runs at once would spoil: leave launcher=serial.")


def refuse_large_window(config: DictConfig, identity: Identity) -> None:
    """Look at the sizes of all images before anything is trained.

    Raises:
        WindowError: when one is smaller than the window that is to be cut out of it.
    """
    if config.preprocess.mode == "window":
        from harness.data.geometry import build_geometry

        geometry = build_geometry(config.preprocess)
        for sample in identity.category.samples:
            geometry.content(*sample_shape(sample))


@lru_cache(maxsize=4)
def open_store(uri: str, directory: str, patience: float = PATIENCE_SECONDS) -> Store:
    """Return the store of this process for a tracking URI."""
    return Store(uri, Path(directory), patience)


_SHOWN_PROBLEMS = 10
_problems: dict[str, str] = {}  # of the categories checked in this process, by fingerprint; empty: sound


def _refuse_broken(identity: Identity, directory: Path) -> None:
    """Check a category once a process, before the first run on it.

    That every image and mask can be decoded and fits is a matter of content: once found, it is noted beside the store,
    and later processes need not decode them all.
    """
    if identity.fingerprint not in _problems:
        sound = directory / "checked" / f"{identity.fingerprint}-{CHECKS_VERSION}"
        _problems[identity.fingerprint] = _list_problems(identity, decode=not sound.exists())
        if not _problems[identity.fingerprint]:
            with suppress(OSError):
                sound.parent.mkdir(parents=True, exist_ok=True)
                sound.touch()
    if _problems[identity.fingerprint]:
        raise DataError(_problems[identity.fingerprint])


def _list_problems(identity: Identity, decode: bool) -> str:
    errors = [problem.text for problem in check_category(identity.category, decode) if problem.severity == "error"]
    if not errors:
        return ""
    shown = errors[:_SHOWN_PROBLEMS]
    if len(errors) > len(shown):
        shown.append(f"… and {len(errors) - len(shown)} more: `python -m harness.data check` lists all.")
    return "\n  ".join([f"{identity.name}/{identity.category.name} has {len(errors)} problem(s):", *shown])


def _tracked(
    config: DictConfig, identity: Identity, store: Store, gpu: int, watcher: Watcher | None
) -> tuple[str, dict[str, float]]:
    """Train and evaluate inside an MLflow run; whatever goes wrong, the run says so."""
    name = f"{config.method.name}/{config.category}/{config.seed}"
    tags = _tags(config, identity) | dict(watcher.tags if watcher else {})
    run = store.start(config.experiment, name, _params(config, identity), tags)
    try:
        train = _import_train()
        metrics = train(config, identity, run, gpu, watcher)
        run.finish()
    except PrunedError:
        run.prune()
        raise
    except BaseException as error:
        run.fail(sentence(error))
        raise
    finally:
        gc.collect()
    return run.run_id, metrics


@lru_cache(maxsize=1)
def _import_train() -> Callable[[DictConfig, Identity, TrackedRun, int, Watcher | None], dict[str, float]]:
    """Import torch and anomalib, which takes seconds: not for a finished run."""
    from harness.runs.training import train

    keep_freed_memory()
    quieten()  # again: importing Lightning sets its own levels
    gc.collect()
    gc.freeze()  # a million objects of the libraries need not be looked at after every run
    atexit.register(gc.unfreeze)  # they are torn down in order
    return train


def _params(config: DictConfig, identity: Identity) -> dict[str, Any]:
    """Return the resolved configuration, flattened, without what is not of this run."""
    params = {
        key: value
        for key, value in flatten(config).items()
        if not key.startswith(("grids", "quick_grids", "launcher", "dry", "dataset.traits"))
    }
    traits = {} if config.dataset.traits is None else {"dataset.traits": _as_json(config.dataset.traits)}
    return params | traits | {"dataset.name": identity.name, "tracking.uri": masked(config.tracking.uri)}


def _as_json(node: DictConfig) -> str:
    """Return a part of the configuration as one parameter: MLflow's names allow no comma, as a person's words have."""
    return json.dumps(OmegaConf.to_container(node, resolve=True), ensure_ascii=False)


def _tags(config: DictConfig, identity: Identity) -> dict[str, str]:
    return {
        "harness.run_key": identity.key,
        "harness.method": config.method.name,
        "harness.dataset": identity.name,
        "harness.category": config.category,
        "harness.protocol": config.protocol.name,
        "harness.seed": str(config.seed),
        "harness.images": str(len(identity.category.samples)),
        "harness.weights": identity.weights,
        "harness.data_fingerprint": identity.fingerprint,
        "harness.git_commit": git_commit() or "none",
        "harness.version": harness.__version__,
        "harness.libraries": environment.libraries(),
        "harness.jobs": os.environ.get(environment.JOBS, "1"),
        **_special_tags(config),
    }


def _special_tags(config: DictConfig) -> dict[str, str]:
    """Return what is to be said of some methods only."""
    tags = {}
    if config.protocol.fold is not None:
        tags["harness.fold"] = str(config.protocol.fold)
    if tuned := tuned_on_test(config):
        tags["harness.tuned_on_test"] = ",".join(tuned)
    if config.method.get("supervised"):
        tags["harness.classifier_libraries"] = environment.libraries(environment.CLASSIFIER_LIBRARIES)
    return tags


def quieten() -> None:
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
        "urllib3",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")

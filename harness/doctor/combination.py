"""What a run is made of: configuration, images, weights and launcher."""

from __future__ import annotations

import importlib.util
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from harness.data import toy
from harness.data.checks import check_category
from harness.data.looking import AwaitedError
from harness.data.protocols import split
from harness.data.readers import DatasetLike, dataset_name, list_categories, read_category
from harness.doctor.checks import Finding, error, ok, warning
from harness.errors import HarnessError
from harness.models.backbones import weights_file
from harness.models.generic import is_name
from harness.models.weights import items
from harness.models.weights.identity import backbones
from harness.schema import validate

SECONDS = 5.0  # that the hub has
_SHOWN = 6  # categories, and problems of one, that are named
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm names them on the hub


def settings(config: DictConfig) -> Iterator[Finding]:
    """Look at whether the values mean something together."""
    try:
        validate(config)
    except HarnessError as failure:
        yield error("Settings", str(failure))
    else:
        yield ok("Settings", f"{config.method.name} with {config.protocol.name} at {config.preprocess.size} px")


def images(config: DictConfig) -> Iterator[Finding]:
    """Look at the data set: its folder, categories and images, and whether the protocol can be drawn from them."""
    dataset: DatasetLike = config.dataset
    if dataset.layout == "toy" and not toy.folder_in(Path(dataset.root or ".").expanduser()).is_dir():
        yield ok("Data", f"toy: drawn into {dataset.root} by the first run")
        return
    try:
        names = list_categories(dataset)
    except HarnessError as failure:
        yield error("Data", str(failure))
        return
    yield from _categories(config, names)
    if config.category is None:
        yield error(
            "Data", f"no category is chosen: give category=NAME of {', '.join(names)}, or category=all with -m."
        )
    elif config.category not in (*names, "all"):
        yield error("Data", f"there is no category {config.category}: choose one of {', '.join(names)}.")


def _categories(config: DictConfig, names: list[str]) -> Iterator[Finding]:
    """Look at what folders and names tell of all categories; of those that are not asked for it is no error."""
    counted, awaited = [], []
    for name in names:
        problems = []
        try:
            category = read_category(config.dataset, name)
            problems = [problem.text for problem in check_category(category, decode=False)]
            if not problems:
                split(category, config.protocol, 0)
        except AwaitedError:
            awaited.append(name)
            continue
        except HarnessError as failure:
            problems = [str(failure)]
        report = error if config.category in (name, "all") else warning
        yield from (report("Data", problem) for problem in problems[:_SHOWN])
        if not problems:
            train = sum(sample.split == "train" for sample in category.samples)
            test = sum(sample.split == "test" for sample in category.samples)
            masks = sum(bool(sample.masks) for sample in category.samples)
            counted.append(f"{name} {train} to train, {test} to test, {masks} with masks")
    if awaited:
        where = f"will be downloaded into {config.dataset.root} by the first run that needs"
        told = f"{dataset_name(config.dataset)}: {_first(awaited, ', ')} {where}"
        yield ok("Data", f"{told} {'it' if len(awaited) == 1 else 'one of them'}")
    if counted:
        where = f"{dataset_name(config.dataset)}: {len(counted)} of {len(names)} categories can be read"
        yield ok("Data", f"{where}: {_first(counted, '; ')} (harness.data check decodes them all)")


def _first(names: list[str], between: str) -> str:
    rest = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return between.join([*names[:_SHOWN], *rest])


def weights(config: DictConfig) -> Iterator[Finding]:
    """Look at where the weights of a method come from; nothing is downloaded."""
    named = is_name(config.method.model)
    networks = [config.backbone] if config.method.get("backbone") is not None else []
    networks += backbones(config)
    needs = config.method.get("needs") or []
    for backbone in networks:
        yield from _backbone(str(backbone.name), config)
    if named and config.backbone.weights == "hub":
        yield from hub(config.method.model, None)
    for item in needs:
        yield from _item(item, config)
    if not networks and not needs and not named:
        yield ok("Weights", f"{config.method.name} needs none")


def _backbone(name: str, config: DictConfig) -> Iterator[Finding]:
    chosen = str(config.backbone.weights)
    if chosen == "random":
        yield ok("Weights", f"{name}: untrained, by backbone.weights=random: accuracy on real images means nothing")
        return
    try:
        path = weights_file(name, chosen, config.weights.dir)
    except HarnessError as failure:
        yield error("Weights", f"{name}: {failure}")
        return
    if path is not None:
        yield ok("Weights", f"{name}: {path}")
    else:
        yield from hub(name, _repository(name))


def hub(name: str, repository: str | None) -> Iterator[Finding]:
    """Look at whether timm's hub has been, or can be, asked for a network.

    Args:
        name: of the network or model.
        repository: of the weights, with its owner, or None where it is known only when the model is built.
    """
    from huggingface_hub import constants

    if repository and _is_cached(Path(constants.HF_HUB_CACHE), repository):
        yield ok("Weights", f"{name}: downloaded before")
        return
    remedy = (
        f"give a local timm state dict with backbone.weights=PATH, or as {name}.safetensors in weights.dir=FOLDER "
        "(or backbone.weights=random to try things out)"
    )
    if constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE") == "1":
        yield error("Weights", f"{name}: not downloaded yet, and HF_HUB_OFFLINE is set: {remedy}.")
        return
    page = f"{constants.ENDPOINT}/{repository}/resolve/main/config.json" if repository else constants.ENDPOINT
    try:
        with urllib.request.urlopen(urllib.request.Request(page, method="HEAD"), timeout=SECONDS):
            yield ok("Weights", f"{name}: the hub answers, the first run downloads")
    except urllib.error.HTTPError as failure:
        yield warning("Weights", f"{name}: the hub answers with {failure.code}: check the name, or {remedy}.")
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "reason", failure)
        yield error("Weights", f"{name}: the hub does not answer ({reason}): {remedy}.")


def _repository(name: str) -> str:
    """Return the hub's repository of a network's weights: without timm's tag, that of the weights it chooses itself."""
    if "." in name:
        return f"timm/{name}"
    from timm.models import get_pretrained_cfg  # with torch, seconds

    settings = get_pretrained_cfg(name)
    return (settings and settings.hf_hub_id) or f"timm/{name}"


def _is_cached(folder: Path, repository: str) -> bool:
    """Whether the hub's own cache holds the weights, and not only a network's description."""
    snapshots = folder / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(file.exists() for name in _WEIGHT_FILES for file in snapshots.glob(f"*/{name}"))


def _item(name: str, config: DictConfig) -> Iterator[Finding]:
    given = config.weights.get(name)
    if name not in items.ITEMS:
        yield error("Weights", f"method.needs={name} is nothing known; a method may need {', '.join(items.ITEMS)}.")
    elif given == "random":
        yield ok("Weights", f"{name}: a stand-in, by weights.{name}=random: no result means anything with it")
    elif given == "hub" and config.weights.dir is not None:
        yield ok("Weights", f"{name}: looked for in {config.weights.dir}, else downloaded there by the first run")
    else:
        try:
            yield ok("Weights", f"{name}: {items.locate(name, config)}")
        except HarnessError as failure:
            yield error("Weights", str(failure))


def launcher(config: DictConfig) -> Iterator[Finding]:
    """Look at the launcher that is chosen, and which others there are."""
    from harness.launchers import PACKAGES, install_command
    from harness.launchers.stores import warning_of

    chosen = str(config.launcher.name)
    there = {name: importlib.util.find_spec(package) is not None for name, package in PACKAGES.items()}
    if not there.get(chosen, True):
        yield error("Launcher", f"launcher={chosen} needs its package: {install_command(chosen)} in a checkout")
    else:
        usable = ["serial", "local", "joblib", *(name for name, here in there.items() if here)]
        absent = [f"{name} with {install_command(name)} in a checkout" for name, here in there.items() if not here]
        yield ok("Launcher", f"{chosen}; usable: {', '.join(usable)}" + (f" ({', '.join(absent)})" if absent else ""))
    if chosen == "slurm" and shutil.which("sbatch") is None:
        yield warning("Launcher", "there is no sbatch here: launcher=slurm runs jobs as processes of this machine.")
    if told := warning_of(str(config.tracking.uri)):
        yield warning("Store", told.removeprefix("Warning: "))

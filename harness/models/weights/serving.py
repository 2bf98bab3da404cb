"""Weights for models that load networks by name themselves, as anomalib's do: ours instead of those of the internet.

While :func:`serve` is open, `timm.create_model(…, pretrained=True)` and torchvision's `weights=…` give the networks
that `backbone.weights` and `weights.dir` mean: no other source, nothing unpickled, and a list of what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.data.fingerprint import file_hash
from harness.errors import WeightsError
from harness.models import backbones
from harness.models.weights.files import file_id, load_state, state_hash

if TYPE_CHECKING:
    from torch import Tensor, nn

TORCHVISION = "torchvision/"  # before the name of a file of torchvision's, which tells architecture and version


@dataclass
class Source:
    """Where networks come from.

    Args:
        weights: `backbone.weights`: hub, random or a file.
        folder: `weights.dir`, where `hub` looks first.
        asked: the networks that were asked for, in order; torchvision's by the names of their files.
    """

    weights: str
    folder: str | None = None
    asked: list[str] = field(default_factory=list)

    def name(self, network: str) -> str:
        """Name a network's weights by content: see :func:`harness.models.backbones.weights_id`."""
        if not network.startswith(TORCHVISION):
            return backbones.weights_id(self._backbone(network), self.folder)
        if self.weights == "random":
            return f"{network}:random-{backbones.RANDOM_SEED}"
        if path := self._torchvision_file(network):
            return f"{network}:{file_id(path)}"
        return f"{network}:hub-{_torchvision_hash(network)}"

    def names(self) -> str:
        """Name the weights of all networks that were asked for, or say `none`."""
        return " + ".join(map(self.name, dict.fromkeys(self.asked))) or "none"

    def timm(self, model_name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        """Stand for `timm.create_model`."""
        if not pretrained:
            return backbones.timm_create(model_name, **options)
        self.asked.append(model_name)
        network = backbones.create_backbone(self._backbone(model_name), self.folder)
        settings = {"label_offset": 0}  # the weights are timm's by now, whatever they were
        return backbones.with_state(model_name, network.state_dict(), pretrained_cfg_overlay=settings, **options)

    def torchvision(self, weights: Any) -> dict[str, Tensor]:
        """Stand for the `get_state_dict` of torchvision's weights."""
        network = TORCHVISION + weights.url.rpartition("/")[2].partition(".")[0]
        self.asked.append(network)
        if self.weights == "random":
            return backbones.untrained(_builder(weights)).state_dict()
        if path := self._torchvision_file(network):
            return _fitting(path, _builder(weights))
        return _torchvision_hub(weights.url)

    def _backbone(self, network: str) -> DictConfig:
        return OmegaConf.create({"name": network, "weights": self.weights})

    def _torchvision_file(self, network: str) -> Path | None:
        name = network.removeprefix(TORCHVISION)
        path = backbones.weights_file(name, self.weights, self.folder)
        if path is not None and self.weights == "hub" and path.suffix == ".pth":
            _check_hash(path)
        return path


@contextmanager
def serve(source: Source) -> Iterator[Source]:
    """Let networks that are created by name come from a source of ours, and from nowhere else."""
    import timm
    from torchvision.models import WeightsEnum

    before = timm.create_model, WeightsEnum.get_state_dict
    timm.create_model = source.timm  # type: ignore[assignment]
    WeightsEnum.get_state_dict = lambda weights, *args, **kwargs: source.torchvision(weights)
    try:
        yield source
    finally:
        timm.create_model, WeightsEnum.get_state_dict = before


def _builder(weights: Any) -> Callable[[], nn.Module]:
    """Return what builds the network of torchvision's that weights belong to, without them."""
    from torchvision import models

    for name in models.list_models():
        if models.get_model_weights(name) is type(weights):
            return partial(models.get_model, name, weights=None)
    raise WeightsError(f"{weights} belong to no network of torchvision's that is known.")


def _fitting(path: Path, builder: Callable[[], nn.Module]) -> dict[str, Tensor]:
    state = load_state(path)
    try:
        builder().load_state_dict(state)
    except RuntimeError as error:
        culprit = re.split(r"[\n\t]+", str(error))[1:2] or [str(error)[:200]]
        raise WeightsError(
            f"Weights {path} do not fit torchvision's network ({culprit[0][:200]}); "
            "give torchvision's own file, by its own name, in weights.dir."
        ) from error
    return state


def _check_hash(path: Path) -> None:
    """Check a file against the hash that torchvision puts into its name.

    Raises:
        WeightsError: where they differ.
    """
    expected = path.stem.rpartition("-")[2]
    if not file_hash(path.absolute()).startswith(expected):
        raise WeightsError(
            f"Weights {path} are damaged: their SHA-256 does not start with {expected}; fetch them anew."
        )


_unreachable: dict[str, WeightsError] = {}


def _torchvision_hub(url: str) -> dict[str, Tensor]:
    import torch

    if url in _unreachable:
        raise _unreachable[url]
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # no network, a wrong hash, a disk that is full
        file = url.rpartition("/")[2]
        _unreachable[url] = WeightsError(
            f"Weights {file} cannot be had from {url} ({type(error).__name__}); "
            f"offline, give that file below weights.dir=FOLDER (or backbone.weights=random)."
        )
        raise _unreachable[url] from error


@lru_cache(maxsize=16)
def _torchvision_hash(network: str) -> str:
    from torchvision import models

    file = network.removeprefix(TORCHVISION)
    for name in models.list_models():
        for weights in models.get_model_weights(name):
            if weights.url.rpartition("/")[2].partition(".")[0] == file:
                return state_hash(_torchvision_hub(weights.url))
    raise WeightsError(f"{network} is no file of torchvision's.")

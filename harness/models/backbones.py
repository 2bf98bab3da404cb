"""Frozen backbones from timm: from its hub, from a local file, or untrained with a fixed seed of their own."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from harness.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from torch import nn

RANDOM_SEED = 0  # of untrained backbones: the same network whatever the seed of the run


def weights_id(backbone: DictConfig) -> str:
    """Name the weights with a hash of their content: `resnet18:random-0`, `resnet18:file-<sha256>`, `…:hub-<hash>`.

    Random and file weights are named without importing torch; hub weights are loaded once a process.

    Raises:
        WeightsError: when the file or the hub cannot be read.
    """
    if backbone.name is None:
        return "none"
    if backbone.weights == "random":
        return f"{backbone.name}:random-{RANDOM_SEED}"
    if backbone.weights == "hub":
        return f"{backbone.name}:hub-{_hub_hash(backbone.name)}"
    return f"{backbone.name}:file-{_file_hash(_weights_file(backbone))}"


def create_backbone(backbone: DictConfig) -> nn.Module:
    """Create the network with its weights.

    Raises:
        ConfigError: for a network that timm does not know.
        WeightsError: when the weights cannot be had or do not fit.
    """
    import timm
    import torch

    name = str(backbone.name)
    if name not in timm.list_models() and name.split(".")[0] not in timm.list_models():
        raise ConfigError(f"backbone.name={name} is not a network of timm; `timm.list_models()` lists them.")
    if backbone.weights == "hub":
        return _from_hub(name)
    if backbone.weights == "random":
        with torch.random.fork_rng():
            torch.manual_seed(RANDOM_SEED)
            network = timm.create_model(name, pretrained=False)
            _open_residual_branches(network)
        return network
    return _from_file(name, _weights_file(backbone))


def _weights_file(backbone: DictConfig) -> Path:
    path = Path(backbone.weights).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"backbone.weights={backbone.weights} is neither hub, nor random, nor a file: "
            f"check the path (relative paths start where you stand)."
        )
    return path


@lru_cache(maxsize=16)
def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _from_file(name: str, path: Path) -> nn.Module:
    import timm
    import torch

    network = timm.create_model(name, pretrained=False)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"Weights {path} cannot be read ({reason}); give a timm state dict as .safetensors or .pth."
        ) from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        culprit = re.split(r"[\n\t]+", str(error))[1:2] or [str(error)[:200]]
        raise WeightsError(
            f"Weights {path} do not fit backbone.name={name} ({culprit[0][:200]}); "
            f"choose the network that the file was saved from."
        ) from error
    return network


_unreachable: dict[str, WeightsError] = {}  # the hub's retries take most of a minute: pay them once, not for every run


def _from_hub(name: str) -> nn.Module:
    import timm

    if name in _unreachable:
        raise _unreachable[name]
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # every hub client has exceptions of its own
        _unreachable[name] = WeightsError(
            f"Weights of {name} cannot be had from the hub ({type(error).__name__}); "
            f"offline, give a local timm state dict with backbone.weights=PATH (or backbone.weights=random)."
        )
        raise _unreachable[name] from error


@lru_cache(maxsize=16)
def _hub_hash(name: str) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(_from_hub(name).state_dict().items()):
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _open_residual_branches(network: nn.Module) -> None:
    """Set the scales that timm starts at zero to one.

    timm zero-initialises the last BatchNorm of each residual block, which helps training; an untrained network
    that stays frozen would then pass nothing but its shortcuts.
    """
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not bool(module.weight.detach().any()):
            nn.init.ones_(module.weight)

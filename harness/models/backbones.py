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
    from torch import Tensor, nn

RANDOM_SEED = 0  # of untrained backbones: the same network whatever the seed of the run. Raise it when
# `_untrained` changes: it is in the run key.
SPREAD = 0.1  # scale of their BatchNorm layers


def weights_id(backbone: DictConfig) -> str:
    """Name the weights with a hash of their content: `resnet18:random-0`, `resnet18:file-<sha256>`, `…:hub-<hash>`.

    Random and file weights are named without importing torch; hub weights are loaded once a process.

    Raises:
        WeightsError: when the file or the hub cannot be read.
    """
    if backbone.name is None:
        return "none"
    network = str(backbone.name).partition(".")[0]  # without timm's tag of pretrained weights
    if backbone.weights == "random":
        return f"{network}:random-{RANDOM_SEED}"
    if backbone.weights == "hub":
        return f"{backbone.name}:hub-{_hub_hash(backbone.name)}"
    return f"{network}:file-{_file_hash(_weights_file(backbone))}"


def create_backbone(backbone: DictConfig) -> nn.Module:
    """Create the network with its weights.

    Raises:
        ConfigError: for a network that timm does not know.
        WeightsError: when the weights cannot be had or do not fit.
    """
    name = str(backbone.name)
    _require_known(name)
    if backbone.weights == "hub":
        return _from_hub(name)
    if backbone.weights == "random":
        return _untrained(name)
    return _from_file(name, _weights_file(backbone))


def _require_known(name: str) -> None:
    import timm

    if name.partition(".")[0] not in timm.list_models():
        raise ConfigError(f"backbone.name={name} is not a network of timm; `timm.list_models()` lists them.")


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

    _require_known(name)
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


def _untrained(name: str) -> nn.Module:
    """Create a network with random weights that nevertheless passes on what it sees.

    timm starts the last BatchNorm of each residual block at zero, which helps training; frozen, such a network would
    pass nothing but its shortcuts. And BatchNorm that never saw an image does not normalise. So the statistics are
    measured on fixed noise with the spectrum of natural images (power falling with f²), and all scales are set to
    one value that gives channels the spread of a trained ResNet18's (standard deviation about 0.1), for which the
    noise of RADL and SimpleNet is made.
    """
    import timm
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(RANDOM_SEED)
        network = timm.create_model(name, pretrained=False)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            nn.init.constant_(norm.weight, SPREAD)
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
        network.train()
        with torch.no_grad():
            for _ in range(2):
                network(_natural_noise(images=16, size=128))
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


def _natural_noise(images: int, size: int) -> Tensor:
    """Return N×3×size×size standardised noise with a 1/f amplitude spectrum, its channels correlated as colours are."""
    import torch

    frequency = torch.fft.fftfreq(size)
    radius = torch.hypot(frequency[:, None], frequency[None, :]).clamp_min(1 / size)
    noise = torch.fft.ifft2(torch.fft.fft2(torch.randn(images, 3, size, size)) / radius).real
    noise = 0.7 * noise[:, :1] + 0.3 * noise
    return (noise - noise.mean(dim=(1, 2, 3), keepdim=True)) / noise.std(dim=(1, 2, 3), keepdim=True)

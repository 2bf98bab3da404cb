"""Frozen backbones from timm: from its hub, from a local file, or untrained with a fixed seed of their own.

`weights` means the same for every network: `random`, a file, or `hub`, which first looks into the user's folder of
weights (`weights.dir`) for `<name>.safetensors` or `<name>.pth`, with and then without timm's tag.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from harness.errors import ConfigError, WeightsError, did_you_mean
from harness.models.weights.files import file_id, load_state, state_hash

if TYPE_CHECKING:
    from torch import Tensor, nn

RANDOM_SEED = 0  # of untrained backbones: the same network whatever the seed of the run. Raise it when
# `_untrained` changes: it is in the run key.
SPREAD = 0.1  # scale of their BatchNorm layers
SUFFIXES = (".safetensors", ".pth")


def weights_id(backbone: DictConfig, folder: str | None = None) -> str:
    """Name the weights with a hash of their content: `resnet18:random-0`, `resnet18:file-<sha256>`, `…:hub-<hash>`.

    Random and file weights are named without importing torch; hub weights are loaded once a process.

    Args:
        backbone: `name`, `weights` and perhaps `options`, which timm's function takes.
        folder: where `hub` looks first: `weights.dir`.

    Raises:
        WeightsError: when the file or the hub cannot be read.
    """
    if backbone.name is None:
        return "none"
    name = str(backbone.name)
    network = name.partition(".")[0]  # without timm's tag of pretrained weights
    listed = ",".join(f"{key}={value}" for key, value in sorted(_options(backbone).items()))
    suffix = f"({listed})" if listed else ""
    if backbone.weights == "random":
        return f"{network}{suffix}:random-{RANDOM_SEED}"
    if path := weights_file(name, backbone.weights, folder):
        return f"{network}{suffix}:{file_id(path)}"
    return f"{name}{suffix}:hub-{_hub_hash(name)}"


def _options(backbone: DictConfig) -> dict[str, Any]:
    return dict(backbone.get("options") or {})


def create_backbone(backbone: DictConfig, folder: str | None = None) -> nn.Module:
    """Create the network with its weights; arguments as of :func:`weights_id`.

    Raises:
        ConfigError: for a network that timm does not know.
        WeightsError: when the weights cannot be had or do not fit.
    """
    name = str(backbone.name)
    _require_known(name)
    options = _options(backbone)
    if backbone.weights == "random":
        return _untrained(name, **options)
    if path := weights_file(name, backbone.weights, folder):
        return _from_file(name, path, **options)
    return _from_hub(name, **options)


def weights_file(name: str, weights: str, folder: str | None, suffixes: tuple[str, ...] = SUFFIXES) -> Path | None:
    """Return the local file of a network's weights, or None where the hub is to be asked.

    Raises:
        WeightsError: for a path that is no file.
    """
    if weights != "hub":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(
                f"backbone.weights={weights} is neither hub, nor random, nor a file: "
                f"check the path (relative paths start where you stand)."
            )
        return path
    if folder is None:
        return None
    below = Path(folder).expanduser()
    if not below.is_dir():
        raise WeightsError(f"weights.dir={folder} is no folder: check the path.")
    places = [below / f"{known}{suffix}" for known in (name, name.partition(".")[0]) for suffix in suffixes]
    return next((path for path in places if path.is_file()), None)


def _require_known(name: str) -> None:
    import timm

    network, known = name.partition(".")[0], timm.list_models()
    if network not in known:
        near = did_you_mean(network, known)
        raise ConfigError(f"backbone.name={name} is not a network of timm{near}; `timm.list_models()` lists them.")


def timm_create(name: str, **options: Any) -> nn.Module:
    """Call timm's own function, whatever `timm.create_model` stands for just now."""
    from timm.models import create_model

    return create_model(name, **options)


def _from_file(name: str, path: Path, **options: Any) -> nn.Module:
    """Load a file strictly, after timm's own translation of older names."""
    state = load_state(path)
    try:
        return with_state(name, state, **options)
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        culprit = re.split(r"[\n\t]+", str(error))[1:2] or [str(error)[:200]]
        raise WeightsError(
            f"Weights {path} do not fit backbone.name={name} ({culprit[0][:200]}); "
            f"choose the network that the file was saved from."
        ) from error


def with_state(name: str, state: dict[str, Tensor], **options: Any) -> nn.Module:
    """Create a network of timm with a state dict, which timm adapts to the options as it does with its own weights."""
    overlay = (options.pop("pretrained_cfg_overlay", None) or {}) | {"state_dict": state, "custom_load": False}
    network: nn.Module = timm_create(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    for module in network.modules():  # timm would keep a copy of the weights
        if isinstance(settings := getattr(module, "pretrained_cfg", None), dict):
            settings.pop("state_dict", None)
    return network


_unreachable: dict[str, WeightsError] = {}  # the hub's retries take most of a minute: pay them once, not for every run


def _from_hub(name: str, **options: Any) -> nn.Module:
    _require_known(name)
    if name in _unreachable:
        raise _unreachable[name]
    try:
        return timm_create(name, pretrained=True, **options)
    except Exception as error:  # every hub client has exceptions of its own
        _unreachable[name] = WeightsError(
            f"Weights of {name} cannot be had from the hub ({type(error).__name__}); "
            f"offline, give a local timm state dict with backbone.weights=PATH, or as {name}.safetensors in "
            f"weights.dir=FOLDER (or backbone.weights=random)."
        )
        raise _unreachable[name] from error


@lru_cache(maxsize=16)
def _hub_hash(name: str) -> str:
    return state_hash(_from_hub(name).state_dict())


_kept: dict[str, nn.Module] = {}  # the last untrained network: the next run of a grid mostly wants the same


def _untrained(name: str, **options: Any) -> nn.Module:
    key = f"{name} {sorted(options.items())}"
    if key not in _kept:
        _kept.clear()
        _kept[key] = untrained(lambda: timm_create(name, pretrained=False, **options))
    return copy.deepcopy(_kept[key])


def untrained(create: Callable[[], nn.Module]) -> nn.Module:
    """Create a network with random weights that nevertheless passes on what it sees.

    timm starts the last BatchNorm of each residual block at zero, which helps training; frozen, such a network would
    pass nothing but its shortcuts. And BatchNorm that never saw an image does not normalise. So the statistics are
    measured on fixed noise with the spectrum of natural images (power falling with f²), and all scales are set to
    one value that gives channels the spread of a trained ResNet18's (standard deviation about 0.1), for which the
    noise of RADL and SimpleNet is made. Networks without BatchNorm stay as they are drawn.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(RANDOM_SEED)
        network = create()
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        if norms:
            _calibrate(network, norms)
    return network.eval()


def _calibrate(network: nn.Module, norms: list[nn.BatchNorm2d]) -> None:
    import torch
    from torch import nn

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


def _natural_noise(images: int, size: int) -> Tensor:
    """Return N×3×size×size standardised noise with a 1/f amplitude spectrum, its channels correlated as colours are."""
    import torch

    frequency = torch.fft.fftfreq(size)
    radius = torch.hypot(frequency[:, None], frequency[None, :]).clamp_min(1 / size)
    noise = torch.fft.ifft2(torch.fft.fft2(torch.randn(images, 3, size, size)) / radius).real
    noise = 0.7 * noise[:, :1] + 0.3 * noise
    return (noise - noise.mean(dim=(1, 2, 3), keepdim=True)) / noise.std(dim=(1, 2, 3), keepdim=True)

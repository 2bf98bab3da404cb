"""From a method's configuration to an anomalib model: the one place outside the model folders that knows anomalib."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.errors import ConfigError
from harness.models.backbones import create_backbone
from harness.schema import METHOD_KEYS

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule
    from torch import Tensor, nn

# PaDiM's published dimensions: anomalib knows them by the backbone's name, and is given a network here.
PADIM_FEATURES = {"resnet18": 100, "wide_resnet50_2": 550}


def build_model(config: DictConfig) -> AnomalibModule:
    """Build the model that `config.method` names, on the backbone that `config.backbone` names.

    Scores stay raw and nothing but the harness measures: anomalib's post-processor (which normalises and clamps),
    evaluator and visualizer are off. The geometry is the data's; the model's pre-processor only normalises.

    Raises:
        ConfigError: for a model that does not exist or a keyword argument that it does not take.
        WeightsError: when the backbone's weights cannot be had.
    """
    model_class = _model_class(config.method.model)
    arguments = _arguments(config.method)
    accepted = inspect.signature(model_class).parameters
    if config.method.backbone is not None:
        arguments |= {"backbone": create_backbone(config.backbone), "layers": list(config.method.layers)}
        if "n_features" in accepted and arguments.get("n_features") is None:
            arguments["n_features"] = _padim_features(config.backbone.name)
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        known = ", ".join(sorted(set(accepted) - {"pre_processor", "post_processor", "evaluator", "visualizer"}))
        raise ConfigError(f"method.{unknown[0]} is not an argument of {model_class.__name__}; it takes {known}.")
    from anomalib.pre_processing import PreProcessor

    normalise = PreProcessor(transform=normalisation(config.preprocess.standardise))
    try:
        return model_class(
            **arguments, pre_processor=normalise, post_processor=False, evaluator=False, visualizer=False
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"method={config.method.name} refuses its arguments: {error}") from error


def is_trainable(model: AnomalibModule) -> bool:
    """Whether epochs mean anything: a memory bank is filled in one pass over the data."""
    from anomalib.models.components import MemoryBankMixin

    return not isinstance(model, MemoryBankMixin)


def normalisation(standardise: bool) -> nn.Module:
    """ImageNet normalisation, or per-image standardisation (paper 004) of N×3×H×W images in [0, 1].

    The latter is over the whole model input, padding included.
    """
    from torchvision.transforms.v2 import Lambda, Normalize

    if standardise:
        return Lambda(_standardise)
    return Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def _standardise(images: Tensor) -> Tensor:
    """Give every image zero mean and unit standard deviation over its pixels and channels."""
    mean = images.mean(dim=(-3, -2, -1), keepdim=True)
    std = images.std(dim=(-3, -2, -1), keepdim=True)
    return (images - mean) / std.clamp_min(1e-6)


def _model_class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"method.model={path} cannot be imported ({error}); give package.module.Class of an AnomalibModule."
        ) from error


def _arguments(method: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(method, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key not in METHOD_KEYS}


def _padim_features(backbone: str) -> int:
    network = backbone.partition(".")[0]
    if network not in PADIM_FEATURES:
        raise ConfigError(
            f"PaDiM has no published embedding size for backbone.name={backbone}; give method.n_features=NUMBER."
        )
    return PADIM_FEATURES[network]

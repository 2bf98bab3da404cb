"""From a method's configuration to an anomalib model: the one place outside the model folders that knows anomalib."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.data.records import Sample
from harness.errors import ConfigError, HarnessError, WeightsError
from harness.identity import epochs
from harness.models import generic
from harness.models.backbones import create_backbone
from harness.models.weights import find
from harness.models.weights.identity import backbones
from harness.models.weights.serving import Source, serve
from harness.schema import METHOD_KEYS, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomalib.models.components import AnomalibModule
    from anomalib.pre_processing import PreProcessor
    from torch import Tensor, nn

# PaDiM's published dimensions: anomalib knows them by the backbone's name, and is given a network here.
PADIM_FEATURES = {"resnet18": 100, "resnet50": 550, "wide_resnet50_2": 550}


def build_model(config: DictConfig, classes: Sequence[str] = ()) -> AnomalibModule:
    """Build the model that `config.method` names, on the backbone that `config.backbone` names.

    `classes` go to the constructor of a classifier.

    Scores stay raw and nothing but the harness measures: anomalib's post-processor (which normalises and clamps),
    evaluator and visualizer are off. The geometry is the data's; the model's pre-processor only normalises.

    Raises:
        ConfigError: for a model that does not exist or a keyword argument that it does not take.
        WeightsError: when the backbone's weights cannot be had.
    """
    if generic.is_name(config.method.model):
        source = Source(config.backbone.weights, config.weights.dir)
        return _build_named(config, source)
    model_class = _model_class(config.method.model)
    arguments = _arguments(config.method)
    accepted = inspect.signature(model_class).parameters
    if config.method.backbone is not None:
        arguments["backbone"] = create_backbone(config.backbone, config.weights.dir)
        if config.method.layers is not None:
            arguments["layers"] = list(config.method.layers)
        if "n_features" in accepted and arguments.get("n_features") is None:
            arguments["n_features"] = _padim_features(config.backbone.name)
    if several := backbones(config):
        arguments["backbones"] = {one.name: create_backbone(one, config.weights.dir) for one in several}
    arguments |= {name: find(name, config) for name in config.method.get("needs") or []}
    if "classes" in accepted:
        arguments["classes"] = tuple(classes)
    return _construct(config, model_class, arguments)


def networks(config: DictConfig) -> str:
    """Name the weights that a model of anomalib's asks for, by building it with untrained ones.

    Raises:
        ConfigError, WeightsError: when it cannot be built, or when weights cannot be had.
    """
    from torch.random import fork_rng

    source = Source("random")
    with fork_rng():
        _build_named(config, source)
    return Source(config.backbone.weights, config.weights.dir, source.asked).names()


def _build_named(config: DictConfig, source: Source) -> AnomalibModule:
    """Build one of anomalib's models by its name; `harness_weights` tells what it was given."""
    described = generic.describe(config.method.model)
    if described.name in generic.REFUSED:
        raise ConfigError(generic.REFUSED[described.name])
    if described.name in generic.OWN_WEIGHTS and source.weights != "hub":
        raise ConfigError(
            f"{described.name} loads weights of its own ({generic.OWN_WEIGHTS[described.name]}), for which "
            f"backbone.weights={source.weights} cannot stand in: give backbone.weights=hub, with the internet at hand."
        )
    model_class = _model_class(described.name)
    accepted = inspect.signature(model_class).parameters
    arguments = _arguments(config.method) | _shared_arguments(config, accepted)
    if config.backbone.name is not None and "backbone" in accepted:
        arguments["backbone"] = str(config.backbone.name)
    if config.method.layers is not None:
        arguments["layers"] = list(config.method.layers)
    for name in config.method.get("needs") or []:
        arguments[generic.argument_of(name, accepted)] = find(name, config)
    with serve(source):
        model = _construct(config, _trained(model_class), arguments)
    model.harness_weights = source.names()  # type: ignore[assignment]
    return model


def _trained(model_class: Any) -> Any:
    """Return a class as it is, or, of a zero-shot model, one that can be trained and stays what it was."""
    from lightning import LightningModule

    from harness.models.components.zero_shot import ZeroShotMixin

    if model_class.training_step is not LightningModule.training_step:
        return model_class
    return type(model_class.__name__, (ZeroShotMixin, model_class), {})


def _shared_arguments(config: DictConfig, accepted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what both the harness and a model of anomalib's go by."""
    shared = {"epochs": epochs(config), "batch_size": int(config.method.batch_size)}
    if (supervised := config.method.get("supervised")) is not None:
        shared["supervised"] = bool(supervised)
    return {name: value for name, value in shared.items() if name in accepted}


def _construct(config: DictConfig, model_class: Any, arguments: dict[str, Any]) -> AnomalibModule:
    accepted = inspect.signature(model_class).parameters
    components = dict.fromkeys(("post_processor", "evaluator", "visualizer"), False)
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        known = ", ".join(sorted(set(accepted) - set(components) - {"pre_processor"}))
        raise ConfigError(f"method.{unknown[0]} is not an argument of {model_class.__name__}; it takes {known}.")
    try:
        given = components | {"pre_processor": _pre_processor(config, model_class)} | arguments
        return model_class(**{name: value for name, value in given.items() if name in accepted})
    except HarnessError:
        raise
    except ImportError as error:
        raise ConfigError(f"method={config.method.name} needs what is not installed: {one_line(error)}") from error
    except OSError as error:  # those of hubs are
        raise WeightsError(
            f"method={config.method.name} loads files of its own, and cannot ({type(error).__name__}: "
            f"{one_line(error)[:120]}); they have no place in weights.dir."
        ) from error
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        hint = ""
        if "backbone" in arguments:
            hint = f" with backbone.name={config.backbone.name} (backbone=paper would be the method's own)"
        raise ConfigError(
            f"method={config.method.name} refuses its arguments{hint}: {one_line(error)[:300]}"
        ) from error


def class_names(config: DictConfig, train: Sequence[Sample]) -> tuple[str, ...]:
    """Return the classes that a classifier tells apart: good and anomalous, or good and every kind of defect."""
    from harness.models.components.classification import BINARY, GOOD, class_of

    if config.method.get("task") != "multiclass":
        return BINARY
    return (GOOD, *sorted({class_of(sample.label, sample.path) for sample in train} - {GOOD}))


def is_trainable(model: AnomalibModule) -> bool:
    """Whether epochs mean anything: a memory bank is filled in one pass over the data, a zero-shot model never."""
    from anomalib.models.components import MemoryBankMixin

    from harness.models.components.zero_shot import ZeroShotMixin

    return not isinstance(model, (MemoryBankMixin, ZeroShotMixin))


def _pre_processor(config: DictConfig, model_class: Any) -> PreProcessor:
    """Return what brings images of the data's geometry to the values that the method expects.

    The resize changes nothing: it tells anomalib's models the size of their input. `normalise: null` means as anomalib
    does it for this model.
    """
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Resize

    size = config.preprocess.size
    steps: list[nn.Module] = [Resize((size, size), antialias=True)]
    normalise = config.method.get("normalise", True)
    if normalise is None and not config.preprocess.standardise:
        steps += _own_normalisation(model_class)
    elif config.preprocess.standardise or normalise:
        steps.append(normalisation(config.preprocess.standardise))
    return PreProcessor(transform=Compose(steps))


def _own_normalisation(model_class: Any) -> list[Any]:
    from anomalib.data.transforms.utils import extract_transforms_by_type
    from torchvision.transforms.v2 import Normalize

    transform = model_class.configure_pre_processor().transform
    return extract_transforms_by_type(transform, Normalize)


def normalisation(standardise: bool) -> nn.Module:
    """ImageNet normalisation, or per-image standardisation (paper 004) of N×3×H×W images in [0, 1].

    The latter is over the whole model input, padding included.
    """
    from torchvision.transforms.v2 import Lambda, Normalize

    if standardise:
        return Lambda(_standardise)
    return Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def _standardise(images: Tensor) -> Tensor:
    """Give every image zero mean and unit standard deviation over its pixels and channels; leave masks alone."""
    from torchvision.tv_tensors import Mask

    if isinstance(images, Mask):
        return images
    mean = images.mean(dim=(-3, -2, -1), keepdim=True)
    std = images.std(dim=(-3, -2, -1), keepdim=True)
    return (images - mean) / std.clamp_min(1e-6)


def _model_class(model: str) -> Any:
    from anomalib.models.components import AnomalibModule

    path = generic.describe(model).path if generic.is_name(model) else model
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"method.model={path} cannot be imported ({error}); give package.module.Class of an AnomalibModule."
        ) from error
    if not isinstance(found, type) or not issubclass(found, AnomalibModule):  # nothing else is called
        raise ConfigError(f"method.model={path} is no AnomalibModule; give package.module.Class of one.")
    return found


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

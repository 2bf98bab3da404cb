"""The one place that decides whether a run may use stored features."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig

from harness.errors import ConfigError
from harness.schema import augments

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule
    from torch import nn


class Frozen(NamedTuple):
    """The frozen part of a model: all that looks at the image.

    Args:
        parent: the module that holds it, under the name `name`.
        name: see there.
        module: the part itself; where it is more than the backbone, its `description` names all that its output
            depends on besides the backbone's maps.
        extractor: the backbone in it, whose maps are stored.
    """

    parent: nn.Module
    name: str
    module: nn.Module
    extractor: nn.Module


def find_frozen(model: AnomalibModule, config: DictConfig) -> Frozen | str:
    """Return the part of a model whose output depends on image and weights alone, or why there is none to be used.

    It is the part that the method's YAML names with `frozen`: the path of the module through which alone the model
    sees its images. Whether it really is frozen is looked at here: it holds one backbone, which anomalib then runs
    without gradients and in evaluation mode.

    Raises:
        ConfigError: when the model has no module of that path.
    """
    from anomalib.models.components import TimmFeatureExtractor

    path = config.method.get("frozen")
    if not path:
        return f"method={config.method.name} names no frozen part (method.frozen)"
    if config.method.backbone is None:
        return "the backbone's weights have no name"
    if config.trainer.precision != "32-true":
        return f"trainer.precision={config.trainer.precision} computes features in 16 bits"
    parent_path, _, name = path.rpartition(".")
    try:
        parent = model.get_submodule(parent_path)
        module = model.get_submodule(path)
    except AttributeError as error:
        raise ConfigError(f"method.frozen={path} is not a module of {type(model).__name__} ({error}).") from error
    extractors = [part for part in module.modules() if isinstance(part, TimmFeatureExtractor)]
    if len(extractors) != 1:
        return f"method.frozen={path} holds {len(extractors)} backbones, not one"
    backbone = set(extractors[0].parameters())
    if any(parameter.dtype.itemsize < 4 for parameter in backbone):
        return "the backbone computes in 16 bits"
    if extractors[0].requires_grad or any(p.requires_grad for p in set(module.parameters()) - backbone):
        return f"method.frozen={path} is trained"
    return Frozen(parent, name, module, extractors[0])


def may_store(config: DictConfig) -> str:
    """Return why the features of a run must not come from a store, or nothing when they may."""
    if config.features.store == "off":
        return "features.store=off"
    if augments(config.augment):
        return "augment= changes training images whenever they are seen"
    if config.timing:
        return "timing=true measures the extraction too"
    return ""

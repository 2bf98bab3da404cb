"""Which weights and images a run stands on, as one line of names and content hashes: a part of its run key."""

from __future__ import annotations

from functools import lru_cache

from omegaconf import DictConfig, OmegaConf

from harness.models import generic
from harness.models.backbones import RANDOM_SEED, weights_file
from harness.models.backbones import weights_id as backbone_id
from harness.models.weights.files import file_id
from harness.models.weights.items import item_id

NOTHING = "none"


def weights_id(config: DictConfig) -> str:
    """Name everything that a run loads: `wide_resnet50_2.tv_in1k:hub-<hash> + dtd:folder-<hash>`, or `none`.

    Random weights, files and folders are named without importing torch. For one of anomalib's models by its name
    `backbone.weights=hub` means that it is built once a process, untrained, to see which networks it asks for: what it
    would load later, as training starts, is not seen. With `random` and a file the networks need not be known, for they
    follow from the model and its arguments, which are in the run key: `stfpm:random-0`.

    Raises:
        WeightsError: when something cannot be had.
        ConfigError: for a model or a network that does not exist.
    """
    method = config.method
    parts = []
    if generic.is_name(method.model):
        parts.append(_named(config))
    elif method.get("backbone") is not None:
        parts.append(backbone_id(config.backbone, config.weights.dir))
    parts += [backbone_id(one, config.weights.dir) for one in backbones(config)]
    parts += [item_id(name, config) for name in method.get("needs") or []]
    return " + ".join(part for part in parts if part != NOTHING) or NOTHING


def backbones(config: DictConfig) -> list[DictConfig]:
    """Return the networks of a method that has several, each with the weights that `backbone.weights` means for it."""
    names = config.method.get("backbones") or []
    return [OmegaConf.create({"name": name, "weights": config.backbone.weights}) for name in names]


def _named(config: DictConfig) -> str:
    described = generic.describe(config.method.model)
    if described.name in generic.OWN_WEIGHTS:
        return f"{described.package}:own"
    if not described.pretrained:
        return NOTHING
    own = config.backbone.name if "backbone" in described.arguments else None
    label = str(own or described.package).partition(".")[0]
    weights = config.backbone.weights
    if weights == "random":
        return f"{label}:random-{RANDOM_SEED}"
    if weights != "hub" and (path := weights_file(label, weights, None)):
        return f"{label}:{file_id(path)}"
    groups = ("method", "backbone", "weights", "preprocess", "trainer", "tracking")
    resolved = {group: OmegaConf.to_container(config[group], resolve=True) for group in groups}
    return _asked_for(OmegaConf.to_yaml(OmegaConf.create(resolved)))


@lru_cache(maxsize=64)
def _asked_for(config: str) -> str:
    from harness.models.adapter import networks

    given = OmegaConf.create(config)
    assert isinstance(given, DictConfig)
    return networks(given)

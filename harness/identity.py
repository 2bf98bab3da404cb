"""What makes a run itself: the run key, and seeds derived from names instead of from the order of events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.data.fingerprint import fingerprint
from harness.data.groups import columns_used
from harness.data.protocol_rules import drawn_as
from harness.data.readers import read_category
from harness.data.records import Category
from harness.data.synthetic import SYNTHETIC_VERSION
from harness.errors import ConfigError
from harness.models.generic import canonical
from harness.models.weights.identity import weights_id
from harness.schema import DatasetConfig, augments, capped, stores_half

KEY_VERSION = 1  # bumped when the harness itself changes every method's numbers


# Of a method's keys: what is in the key otherwise, and what changes no number.
NOT_IN_KEY = frozenset({"epochs", "backbone", "frozen", "least_size", "tuned_on_test"})


@dataclass(frozen=True)
class Identity:
    """A run before it runs: its key and what the key stands on."""

    category: Category
    fingerprint: str
    weights: str
    key: str

    @property
    def name(self) -> str:
        """What the data set is called in tables."""
        return self.category.dataset


def identify(config: DictConfig) -> Identity:
    """Return the identity of a run, reading data and naming weights but training nothing.

    Raises:
        ConfigError, DataError, WeightsError: when the run could not even be named.
    """
    dataset: DatasetConfig = config.dataset
    if config.category is None:
        raise ConfigError("No category is chosen: give category=NAME, or category=all with -m for every category.")
    category = _read(OmegaConf.to_yaml(dataset, resolve=True), config.category)
    content = fingerprint(category)
    weights = weights_id(config)
    metadata = columns_used(category, config.protocol)
    return Identity(category, content, weights, run_key(config, content, weights, metadata))


@lru_cache(maxsize=64)
def _read(dataset: str, category: str) -> Category:
    return read_category(OmegaConf.merge(OmegaConf.structured(DatasetConfig), OmegaConf.create(dataset)), category)


def run_key(
    config: DictConfig, data_fingerprint: str, weights: str, metadata: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """Return the identity of a run: 20 hex digits over everything that can change its numbers.

    In it: the method with its version and arguments, epochs and batch size, backbone and weights, preprocessing,
    protocol, where metrics are scored, category, seed, precision, and the content of the data. Augmentation, grey
    images, half-precision features, `timing`, synthetic defects and the columns of metadata that decide a split
    (`metadata`: column -> sample -> value) are in it only where they are chosen, so that older keys stay as they were.
    Not in it: paths, device, threads, workers, evaluation batch size, where features are stored, tracking and log
    settings, the names of data set and experiment.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    method: dict[str, Any] = plain["method"] | {"model": canonical(plain["method"]["model"])}
    identity = {
        "key_version": KEY_VERSION,
        "method": {key: value for key, value in method.items() if key not in NOT_IN_KEY},
        "epochs": epochs(config),
        "backbone": weights,
        "preprocess": {key: value for key, value in plain["preprocess"].items() if key != "grey" or value},
        "protocol": {key: value for key, value in plain["protocol"].items() if value is not None},
        "metrics": {key: plain["metrics"][key] for key in ("resolution", "frame")},
        "precision": plain["trainer"]["precision"],
        "category": plain["category"],
        "seed": plain["seed"],
        "data": data_fingerprint,
    }
    if stores_half(plain["features"]):
        identity["features"] = plain["features"]["dtype"]
    if augments(plain["augment"]):
        identity["augment"] = plain["augment"]
    if plain["protocol"]["synthetic"]:
        identity["synthetic"] = SYNTHETIC_VERSION
    if metadata:
        identity["metadata"] = metadata
    if plain["timing"]:
        identity["timing"] = {key: plain["trainer"][key] for key in ("device", "threads", "eval_batch_size")}
        if plain["quick"]:  # fewer calls are measured
            identity["timing"]["quick"] = True
    return digest(identity)[:20]


def epochs(config: DictConfig) -> int:
    """Return the epochs that a run trains: the method's own, capped by `trainer.max_epochs`."""
    return capped(int(config.method.epochs), config.trainer.max_epochs)


def tuned_on_test(config: DictConfig) -> list[str]:
    """Return the method's settings whose value here is one that its paper chose on the test images.

    `method.tuned_on_test` lists such values: setting -> category -> value.
    """
    listed = config.method.get("tuned_on_test") or {}
    return [name for name, values in listed.items() if values.get(config.category) == config.method[name]]


def split_seed(config: DictConfig, data_fingerprint: str) -> int:
    """Return the seed that draws a run's split: the same for all methods, and for protocols with one test set."""
    name = drawn_as(config.protocol.name)
    return derive_seed("protocol", config.seed, data_fingerprint, config.category, name)


def derive_seed(*parts: str | int) -> int:
    """Return a 32-bit seed that depends on nothing but the names and numbers given.

    Draws of a protocol are derived from seed, data, category and protocol and never from the method, so that all
    methods see the same images; neighbouring seeds give unrelated streams.
    """
    return int(digest(list(parts))[:8], 16)


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON-like value in canonical form (sorted keys, no white space)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

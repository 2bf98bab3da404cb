"""What a study is of: the run that is tuned, its search space and objective, and the name they give it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from harness.arguments import searchpath
from harness.choices import CONF_DIR
from harness.data.protocols import split
from harness.errors import ConfigError
from harness.grid import require_single
from harness.identity import Identity, digest, identify, split_seed, tuned_on_test
from harness.schema import compose, validate
from harness.tuning.options import Options
from harness.tuning.space import Space, load_space

TUNE_ONE = "{} asks for several runs: give one of each, for a study tunes one run."
SAFE = "validated_synthetic"  # the protocol whose validation images cost no defective image
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Plan:
    """A study before its first trial; can be sent to another process.

    Attributes:
        config: the run that is tuned, with the method's own values.
        method: the method's choice, such as `radl_a`.
        overrides: what the configuration was composed of.
        changed: the method's keys that these overrides set, with their unresolved values.
        protocol_chosen: whether the protocol was chosen here, for want of validation images.
        dataset: what the data set is called.
        settings: what the study stands on; another command may only go on with it when all are the same.
    """

    config: DictConfig
    method: str
    overrides: tuple[str, ...]
    changed: dict[str, Any]
    protocol_chosen: bool
    dataset: str
    space: Space
    objective: str
    prune: bool
    name: str
    settings: dict[str, str]

    @property
    def directory(self) -> Path:
        """Where runs, study and best configuration lie."""
        return Path(self.config.tracking.directory)

    @property
    def maximise(self) -> bool:
        """Whether more of the objective is better: not of losses, nor of the average quality level."""
        return not re.search(r"loss|(^|[/_])aql", self.objective)

    @property
    def on_test(self) -> bool:
        """Whether the objective is measured on test images."""
        return self.objective.startswith("test/")

    @cached_property
    def digest(self) -> str:
        """The study's identity, whatever it is called."""
        return digest(self.settings)

    @property
    def own(self) -> dict[str, Any]:
        """The method's own values in the search space, but those that its paper chose on test images."""
        told = () if self.on_test else tuned_on_test(self.config)
        return {name: value for name, value in self.space.own(self.config.method).items() if name not in told}

    def trial_config(self, params: dict[str, Any]) -> DictConfig:
        """Return the configuration of a trial's run."""
        config: DictConfig = self.config.copy()
        for name, value in params.items():
            config.method[name] = self.space.setting(name, value)
        return config


def make_plan(options: Options) -> Plan:
    """Return what a command asks to tune.

    Raises:
        HarnessError: when it cannot be tuned: no single run, no validation images, no search space.
    """
    folders = [*([Path(options.config_dir).resolve()] if options.config_dir else []), CONF_DIR]
    require_single(options.overrides, TUNE_ONE)
    overrides = [*searchpath(options.config_dir), *options.overrides]
    config, chosen = _validated(overrides, options.tune.objective)
    method = _given(options.overrides, "method") or str(config.method.name)
    space = load_space(config, method, folders, options.tune.search)
    config.experiment = _given(options.overrides, "experiment") or "tune"
    with open_dict(config):
        del config.launcher  # as every run: it belongs to sweeps
    identity = identify(config)
    settings = _settings(config, method, space, options.tune.objective)
    hashed = f"{method}-{config.category}-{digest(settings)[:8]}"
    return Plan(
        config=config,
        method=method,
        overrides=tuple(overrides),
        changed=_changed(config, compose([*searchpath(options.config_dir), f"method={method}"])),
        protocol_chosen=chosen,
        dataset=identity.name,
        space=space,
        objective=options.tune.objective,
        prune=options.tune.prune,
        name=_checked(options.tune.name, folders) or re.sub(r"[^A-Za-z0-9_.-]+", "_", hashed),
        settings=settings,
    )


def _given(overrides: Sequence[str], key: str) -> str | None:
    """Return the choice that the last override of a group makes."""
    values = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == key]
    return values[-1].strip("'\"") if values else None


def _validated(overrides: Sequence[str], objective: str) -> tuple[DictConfig, bool]:
    """Return the configuration, with validation images where the objective needs some, and whether this chose them."""
    config = _single(overrides)
    if not objective.startswith("val/") or _validates(config, identify(config)):
        return config, False
    if _given(overrides, "protocol") is not None:
        raise ConfigError(
            f"protocol={config.protocol.name} leaves no good and defective images to validate on, so {objective} "
            f"cannot be measured: give protocol={SAFE}, validated or supervised; choosing on the test images must be "
            "named: tune.objective=test/image_auroc."
        )
    return _single([*overrides, f"protocol={SAFE}"]), True


def _single(overrides: Sequence[str]) -> DictConfig:
    config = compose(overrides)
    if config.grids:
        raise ConfigError(TUNE_ONE.format(f"experiment={config.experiment}"))
    validate(config)
    return config


def _validates(config: DictConfig, identity: Identity) -> bool:
    validation = split(identity.category, config.protocol, split_seed(config, identity.fingerprint)).validation
    labels = {sample.label for sample in validation}
    return len(labels) == 2 or bool(validation and config.protocol.synthetic)


def _settings(config: DictConfig, method: str, space: Space, objective: str) -> dict[str, str]:
    """Return what changes a trial's numbers, or which trials there are."""
    somewhere = config.copy()  # the method's own values of what is tuned do not matter
    for name, value in space.representative().items():
        somewhere.method[name] = value
    return {
        "method": method,
        "category": str(config.category),
        "protocol": config.protocol.name,
        "objective": objective,
        "search space": digest({name: str(d) for name, d in space.distributions.items()})[:12],
        "data and other settings": identify(somewhere).key,
    }


def _changed(config: DictConfig, plain: DictConfig) -> dict[str, Any]:
    """Return the method's values that differ from those of its YAML, as they were written."""
    ours, own = (OmegaConf.to_container(c.method, resolve=False) for c in (config, plain))
    assert isinstance(ours, dict) and isinstance(own, dict)
    if lost := sorted(own.keys() - ours.keys()):
        raise ConfigError(
            f"~method.{lost[0]} cannot be tuned with: the result is a method's YAML, which cannot remove."
        )
    return {str(key): value for key, value in ours.items() if key not in own or own[key] != value}


def _checked(name: str | None, folders: Sequence[Path]) -> str | None:
    if name is None:
        return None
    if not _NAME.fullmatch(name):
        raise ConfigError(f"tune.name={name} is not possible; give letters, digits, '.', '-' and '_'.")
    if any((folder / "method" / f"{name}.yaml").is_file() for folder in folders):
        raise ConfigError(f"tune.name={name} is a method's name already, and the best configuration becomes a method.")
    return name

"""Search spaces: `conf/search/METHOD.yaml` says between which values each setting of a method is searched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from yaml import YAMLError

from harness.errors import ConfigError
from harness.schema import one_line

FORMS = "{low: …, high: …} with log: true or step: … if wanted, or {choices: [a, b, …]}"
# Settings that say what a method is, not how it is set.
_FIXED = frozenset({"name", "version", "model", "frozen", "needs", "supervised", "tuned_on_test"})


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        source: the file's name.
        distributions: setting (without `method.`) -> Optuna's distribution.
    """

    source: str
    distributions: Mapping[str, BaseDistribution]

    def setting(self, name: str, value: Any) -> Any:
        """Return a trial's value as the method takes it: lists are text to Optuna."""
        distribution = self.distributions[name]
        listed = isinstance(distribution, CategoricalDistribution) and isinstance(value, str) and value[:1] in "[{"
        return json.loads(value) if listed else value

    def own(self, method: DictConfig) -> dict[str, Any]:
        """Return the method's own values, as far as they lie in the space."""
        values = {name: _plain(method[name]) for name in self.distributions}
        return {name: value for name, value in values.items() if _contains(self.distributions[name], value)}

    def representative(self) -> dict[str, Any]:
        """Return one point of the space, always the same."""
        return {
            name: self.setting(name, d.choices[0] if isinstance(d, CategoricalDistribution) else d.low)
            for name, d in self.distributions.items()
            if isinstance(d, CategoricalDistribution | FloatDistribution | IntDistribution)
        }


def load_space(config: DictConfig, method: str, folders: Sequence[Path], search: str | None) -> Space:
    """Return the search space of a method.

    Args:
        config: the configuration of a run; interpolations in the space are resolved in it.
        method: the method's choice, such as `radl_a`.
        folders: configuration trees, the user's first.
        search: a file, or the name of one in `search/`; None: the method's, or that of what it inherits from.

    Raises:
        ConfigError: when there is none, or it does not fit the method.
    """
    path = _find(method, folders, search)
    try:
        node = OmegaConf.create({"space": OmegaConf.load(path)})
        node._set_parent(config)
        entries = OmegaConf.to_container(node, resolve=True)["space"]  # type: ignore[index,call-overload]
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"The search space {path} cannot be read ({one_line(error)}): write YAML, method.KEY: {FORMS}."
        ) from error
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(f"The search space {path} is empty: write method.KEY: {FORMS}.")
    found = dict(_distribution(f"{path.name}: {key}", str(key), entry, config) for key, entry in entries.items())
    return Space(path.name, found)


def _find(method: str, folders: Sequence[Path], search: str | None) -> Path:
    if search is not None and Path(search).suffix in (".yaml", ".yml"):
        if not Path(search).is_file():
            raise ConfigError(f"tune.search={search}: there is no such file; check the path.")
        return Path(search)
    for name in [search] if search is not None else _ancestry(method, folders):
        for folder in folders:
            if (path := folder / "search" / f"{name}.yaml").is_file():
                return path
    if search is not None:
        known = sorted({path.stem for folder in folders for path in (folder / "search").glob("*.yaml")})
        raise ConfigError(f"tune.search={search}: there is no such search space; there are {', '.join(known)}.")
    raise ConfigError(
        f"method={method} has no search space: write search/{method}.yaml in a folder given with --config-dir "
        f"(method.KEY: {FORMS}), or give tune.search=FILE."
    )


def _ancestry(method: str, folders: Sequence[Path]) -> Iterator[str]:
    """Yield a method and those that it inherits from, the nearest first."""
    yield method
    for folder in folders:
        if (path := folder / "method" / f"{method}.yaml").is_file():
            defaults = OmegaConf.select(OmegaConf.load(path), "defaults") or []
            for parent in [d for d in defaults if isinstance(d, str) and d not in ("_self_", method)]:
                yield from _ancestry(parent, folders)
            return


def _distribution(place: str, key: str, entry: Any, config: DictConfig) -> tuple[str, BaseDistribution]:
    """Return a setting, and what its entry in the file means."""
    name = key.removeprefix("method.")
    if name == key:
        raise ConfigError(
            f"{place} is no setting of the method: only method.… can be tuned, for the result is a method."
        )
    if name in _FIXED:
        raise ConfigError(f"{place} cannot be tuned: it says what the method is.")
    if name not in config.method:
        settings = ", ".join(key for key in config.method if key not in _FIXED)
        raise ConfigError(f"{place} is no setting of method {config.method.name}; it has {settings}.")
    if not isinstance(entry, dict) or not ({"choices"} == set(entry) or {"low", "high"} <= set(entry)):
        raise ConfigError(f"{place} is not understood: write {FORMS}.")
    if "choices" in entry:
        return name, _categorical(place, entry["choices"])
    return name, _range(place, entry, config.method[name])


def _categorical(place: str, choices: Any) -> CategoricalDistribution:
    if not isinstance(choices, list) or len(choices) < 2:
        raise ConfigError(f"{place}: choices must be a list of two or more.")
    return CategoricalDistribution([_plain(choice) for choice in choices])


def _range(place: str, entry: Mapping[str, Any], own: Any) -> FloatDistribution | IntDistribution:
    if strange := set(entry) - {"low", "high", "log", "step"}:
        raise ConfigError(f"{place}: {', '.join(sorted(strange))} is not understood: write {FORMS}.")
    low, high, log, step = entry["low"], entry["high"], entry.get("log", False), entry.get("step")
    numbers = [value for value in (low, high, step) if value is not None]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        raise ConfigError(f"{place}: low, high and step must be numbers.")
    if not low < high or (step is not None and step <= 0):
        raise ConfigError(f"{place}: low must be less than high, and step above 0.")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"{place}: log: true needs a low above 0, and no step.")
    if all(isinstance(value, int) for value in numbers) and not isinstance(own, float):
        return IntDistribution(low, high, log=bool(log), step=step or 1)
    return FloatDistribution(low, high, log=bool(log), step=step)


def _plain(value: Any) -> CategoricalChoiceType:
    """Return a value that Optuna can store: lists and mappings as JSON text."""
    value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    return json.dumps(value) if isinstance(value, list | dict) else value


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in distribution.choices)
    if not isinstance(distribution, FloatDistribution | IntDistribution) or isinstance(value, bool):
        return False
    if not isinstance(value, int if isinstance(distribution, IntDistribution) else int | float):
        return False
    steps = (value - distribution.low) / (distribution.step or 1)
    on_step = distribution.step is None or abs(steps - round(steps)) < 1e-8
    return distribution.low <= value <= distribution.high and on_step

"""Variants: in which settings the runs of one method differ, and what to call them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

GROUPS = ("method.", "preprocess.", "augment.", "metrics.", "backbone.")
NOT_NUMBERS = frozenset(  # named otherwise (tags), folded into `epochs`, or without influence on a number
    {"method.name", "method.backbone", "method.epochs", "method.frozen", "backbone.weights", "metrics.heatmaps"}
)
UNSET = "unset"
PER_CATEGORY = "per category"

Settings = dict[str, str]


class Setting(NamedTuple):
    """One run, as far as variants are concerned."""

    method: str
    dataset: str
    settings: Settings


class Variants(NamedTuple):
    """Labels in the order of the runs, and what the labels leave out."""

    labels: list[str]
    base: dict[str, Settings]  # method -> value of each differing setting in the variant without a suffix
    by_dataset: dict[str, dict[str, Settings]]  # method -> setting -> data set -> value


def settings(params: Mapping[str, str], weights: str) -> Settings:
    """Return the settings that can change a run's numbers, data, protocol and seed aside, from its params."""
    chosen = {k: _plain(v) for k, v in params.items() if k.startswith(GROUPS) and k not in NOT_NUMBERS}
    if chosen.get("backbone.options") == "{}":  # as runs of older versions
        del chosen["backbone.options"]
    chosen = _per_category(chosen, params.get("category", ""))
    if params.get("augment.rotation") == "0.0" and params.get("augment.noise_variance") == "[0.0, 0.0]":
        chosen = {k: v for k, v in chosen.items() if not k.startswith("augment.")}  # as runs of older versions
    if params.get("features.dtype") == "float16" and params.get("features.store") != "off":
        chosen["features.dtype"] = "float16"
    epochs = [params.get(key) for key in ("method.epochs", "trainer.max_epochs")]
    whole = [int(value) for value in epochs if value is not None and value.isdigit()]
    if whole:
        chosen["epochs"] = str(min(whole))
    if "trainer.precision" in params:
        chosen["trainer.precision"] = params["trainer.precision"]
    chosen["weights"] = weights
    return chosen


def _per_category(chosen: Settings, category: str) -> Settings:
    """Let a setting that goes with the category (`method.tuned_on_test`) be one setting, whatever its value."""
    lists = "method.tuned_on_test."
    own = {k: v for k, v in chosen.items() if not k.startswith(lists)}
    for key, value in chosen.items():
        name, _, of = key.removeprefix(lists).partition(".")
        if key.startswith(lists) and of == category and own.get(f"method.{name}") == value:
            own[f"method.{name}"] = PER_CATEGORY
    return own


def label_variants(runs: Sequence[Setting], defaults: Mapping[str, Settings] | None = None) -> Variants:
    """Name each run's variant: `radl`, or `radl (loss=truncated_l1)` after what differs from the most common one.

    A setting that differs between data sets but never within one belongs to the data set (its image size, its
    backbone), not to the variant; it is returned aside so that the page can tell it.

    Args:
        runs: the settings of every run.
        defaults: method -> its settings as configured by default: of equally common variants, the nearest to them
            counts as the most common.
    """
    defaults = defaults or {}
    labels = [""] * len(runs)
    base: dict[str, Settings] = {}
    by_dataset: dict[str, dict[str, Settings]] = {}
    for method in sorted({run.method for run in runs}):
        members = [i for i, run in enumerate(runs) if run.method == method]
        own, tied = _differing([runs[i] for i in members])
        short = _short_names(own)
        configs = {i: tuple(runs[i].settings.get(key, UNSET) for key in own) for i in members}
        count = Counter(configs.values())
        default = tuple(defaults.get(method, {}).get(key, UNSET) for key in own)
        common = min(count, key=lambda config: (-count[config], _distance(config, default), config))
        for i in members:
            pairs = zip(own, configs[i], common, strict=True)
            suffix = ", ".join(f"{short[key]}={value}" for key, value, usual in pairs if value != usual)
            labels[i] = f"{method} ({suffix})" if suffix else method
        if own:
            base[method] = {short[key]: value for key, value in zip(own, common, strict=True)}
        if tied:
            by_dataset[method] = tied
    return Variants(labels, base, by_dataset)


def _differing(runs: Sequence[Setting]) -> tuple[list[str], dict[str, Settings]]:
    """Split the settings that differ among a method's runs: within a data set, and only between data sets."""
    own: list[str] = []
    tied: dict[str, Settings] = {}
    for key in sorted({key for run in runs for key in run.settings}):
        values: dict[str, set[str]] = {}
        for run in runs:
            values.setdefault(run.dataset, set()).add(run.settings.get(key, UNSET))
        if any(len(of_dataset) > 1 for of_dataset in values.values()):
            own.append(key)
        elif len(set.union(*values.values())) > 1:
            tied[key] = {dataset: next(iter(of_dataset)) for dataset, of_dataset in sorted(values.items())}
    return own, tied


def _distance(config: Sequence[str], default: Sequence[str]) -> int:
    return sum(value != usual for value, usual in zip(config, default, strict=True))


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return `loss` for `method.loss` and `backbone` for `backbone.name`; full keys where that is ambiguous."""
    short = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    count = Counter(short.values())
    return {key: name if count[name] == 1 else key for key, name in short.items()}


def _plain(value: str) -> str:
    """Return a logged value as YAML would write it."""
    return {"True": "true", "False": "false", "None": "null"}.get(value, value)

"""Variants: in which settings the runs of one method differ, and what to call them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.report.names import draws_shares, given, tests_on_own_images

GROUPS = ("method.", "preprocess.", "augment.", "metrics.", "backbone.")
NOT_NUMBERS = frozenset(  # named otherwise (tags), folded into `epochs`, or without influence on a number
    {
        "method.name", "method.backbone", "method.epochs", "method.frozen", "method.least_size", "backbone.weights",
        "metrics.heatmaps",
    }
)  # fmt: skip
AUGMENT_KEYS = ("augment.rotation", "augment.rotation_p", "augment.noise_variance", "augment.noise_p")
UNSET = "unset"
LISTS = "method.tuned_on_test."
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
    settings: dict[str, Settings]  # label -> value of each setting that differs among its method's runs


def settings(params: Mapping[str, str], weights: str, swept: Container[str] = ()) -> Settings:
    """Return the settings that can change a run's numbers, test images and seed aside, from its params.

    What is chosen nowhere, or did not exist when older runs were made, is left out: it makes no variant of them.
    Settings that are `swept` keep their value although it may go with the category.
    """
    chosen = {k: _plain(v) for k, v in params.items() if k.startswith(GROUPS) and k not in NOT_NUMBERS}
    if chosen.get("backbone.options") == "{}":
        del chosen["backbone.options"]
    chosen = _per_category(chosen, params.get("category", ""), swept)
    if chosen.get("preprocess.grey") == "false":
        del chosen["preprocess.grey"]
    chosen = _augmentation(chosen) | _training_images(params)
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


def swept_settings(params: Sequence[Mapping[str, str]]) -> set[str]:
    """Return the settings with a value for each category (`method.tuned_on_test`) that were given values by hand.

    One category's own value stands there in a run of another category too.
    """
    own: dict[str, set[str]] = {}
    given: dict[str, set[str]] = {}
    for of_run in params:
        for name in {key.removeprefix(LISTS).partition(".")[0] for key in of_run if key.startswith(LISTS)}:
            value = of_run.get(f"method.{name}", "")
            is_own = of_run.get(f"{LISTS}{name}.{of_run.get('category')}") == value
            (own if is_own else given).setdefault(f"method.{name}", set()).add(value)
    return {name for name, values in own.items() if values & given.get(name, set())}


def _per_category(chosen: Settings, category: str, swept: Container[str]) -> Settings:
    """Let a setting that goes with the category (`method.tuned_on_test`) be one setting, whatever its value."""
    own = {k: v for k, v in chosen.items() if not k.startswith(LISTS)}
    for key, value in chosen.items():
        name, _, of = key.removeprefix(LISTS).partition(".")
        if f"method.{name}" in swept:
            continue
        if key.startswith(LISTS) and of == category and own.get(f"method.{name}") == value:
            own[f"method.{name}"] = PER_CATEGORY
    return own


def _augmentation(chosen: Settings) -> Settings:
    """Make one readable setting of the four that tell how training images are augmented, none without augmentation."""
    rest = {key: value for key, value in chosen.items() if key not in AUGMENT_KEYS}
    rotation, rotation_p, noise, noise_p = (chosen.get(key, "0") for key in AUGMENT_KEYS)
    low, high = (0.0, 0.0) if noise == "0" else ast.literal_eval(noise)
    parts = [f"rotation {float(rotation):g} p {float(rotation_p):g}"] if float(rotation) else []
    parts += [f"noise {low:g}-{high:g} p {float(noise_p):g}"] if high else []
    return rest | {"augment": ", ".join(parts)} if parts else rest


def _training_images(params: Mapping[str, str]) -> Settings:
    """Return what a protocol changes about the training; what it changes about the test is in the data set's name."""
    keys, protocol = ["shots", "synthetic"], params.get("protocol.name", "one_class")
    if tests_on_own_images(protocol, params):
        keys.append("validation")
    if draws_shares(protocol):
        keys += ["name", "validation"]
    found = {f"protocol.{key}": given(params, f"protocol.{key}") for key in keys}
    return {key: _plain(value) for key, value in found.items() if value and value != "False"}


def without_shots(run: Setting) -> Setting:
    """Return a run's settings without its number of training images: what runs of one learning curve share."""
    return run._replace(settings={key: value for key, value in run.settings.items() if key != "protocol.shots"})


def label_order(labels: Iterable[str]) -> list[str]:
    """Return labels by method, then by variant: the plain one first, and numbers by their value (shots=8 before 16)."""
    return sorted(labels, key=lambda label: (label.partition(" (")[0], by_value(label)))


def by_value(text: str) -> tuple[list[str | float], str]:
    """Return a key that sorts texts as a reader expects, with numbers in them by value; what is equal so, as text."""
    words = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", text)
    return [float(word) if i % 2 else word for i, word in enumerate(words)], text


def unusual(runs: Sequence[Setting], defaults: Mapping[str, Settings]) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the method's settings that all its runs share, but not with its default: method -> setting -> both.

    No label tells them: of a report of `radl_b` alone, every column is called radl.
    """
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for method, usual in defaults.items():
        own = [run.settings for run in runs if run.method == method]
        for key in sorted(usual):
            values = {settings.get(key) for settings in own}
            if key.startswith("method.") and len(values) == 1 and values not in ({None}, {usual[key]}):
                found.setdefault(method, {})[key.removeprefix("method.")] = (str(*values), usual[key])
    return found


def label_variants(runs: Sequence[Setting], defaults: Mapping[str, Settings] | None = None) -> Variants:
    """Name each run's variant: `radl`, or `radl (loss=truncated_l1)` after what differs from the most common one.

    A setting that differs between data sets but never within one belongs to the data set (its image size, its
    backbone), not to the variant; it is returned aside so that the page can tell it. What a variant adds to a plain run
    (augmentation, few shots) is always named, however common it is.

    Args:
        runs: the settings of every run.
        defaults: method -> its settings as configured by default: of equally common variants, the nearest to them
            counts as the most common.
    """
    defaults = defaults or {}
    labels = [""] * len(runs)
    base: dict[str, Settings] = {}
    by_dataset: dict[str, dict[str, Settings]] = {}
    own_settings: dict[str, Settings] = {}
    for method in sorted({run.method for run in runs}):
        members = [i for i, run in enumerate(runs) if run.method == method]
        own, tied = _differing([runs[i] for i in members])
        short = _short_names(own)
        configs = {i: tuple(runs[i].settings.get(key, UNSET) for key in own) for i in members}
        count = Counter(configs.values())
        default = tuple(defaults.get(method, {}).get(key, UNSET) for key in own)
        common = min(count, key=lambda config: (-count[config], _distance(config, default), config))
        common = tuple(UNSET if _added(key) else value for key, value in zip(own, common, strict=True))
        for i in members:
            pairs = zip(own, configs[i], common, strict=True)
            suffix = ", ".join(f"{short[key]}={value}" for key, value, usual in pairs if value != usual)
            labels[i] = f"{method} ({suffix})" if suffix else method
            own_settings[labels[i]] = dict(zip(own, configs[i], strict=True))
        if plain := {short[key]: value for key, value in zip(own, common, strict=True) if not _added(key)}:
            base[method] = plain
        if tied:
            by_dataset[method] = tied
    return Variants(labels, base, by_dataset, own_settings)


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
        elif len(set.union(*values.values())) > 1 and not _added(key):
            tied[key] = {dataset: next(iter(of_dataset)) for dataset, of_dataset in sorted(values.items())}
    return own, tied


def _added(key: str) -> bool:
    """Whether a setting adds something to a plain run, which has not got it."""
    return key == "augment" or key.startswith("protocol.")


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

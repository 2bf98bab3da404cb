"""What Hydra and OmegaConf say about a command line, as one sentence that tells what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from harness.errors import did_you_mean
from harness.uri import shown_argument

if TYPE_CHECKING:
    from yaml import YAMLError

_ABSENT = re.compile(r"Could not find '([\w/]+)/([^'/]*)'(?: Available options in '.+?': (.+?))?(?: Config search|$)")
_WANTED = (  # what a type says of a value that is none of its own -> what to give
    ("converted to Integer", "a whole number"),
    ("converted to Float", "a number"),
    ("is not a valid bool", "true or false"),
    ("is not Optional|value 'None' for field", "a value"),
    ("is not a ListConfig", "a list, as [1,2]"),
    ("ListConfig|Cannot convert 'list'|Unsupported value type", "one value"),
)


def explain(error: HydraException | OmegaConfBaseException | YAMLError) -> str:
    """Return what is wrong with an override or a configuration file, without advice that does not hold here."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OverrideParseException):
        given = shown_argument(str(error.override))
        return f"{given} cannot be read; write key=value, and 'key=\"a b\"' where it has spaces, brackets or another =."
    if missing := re.match(r"Could not override '([^']+)'", text):
        return _no_setting(missing[1])
    if absent := _ABSENT.search(text):
        return _no_choice(*absent.groups())
    if merged := re.match(r"Error merging override (.+)", text):
        return not_possible(merged[1], " ".join(str(error.__cause__ or "").split()))
    if name := re.match(r"Interpolation key '(.+?)' not found", text):
        return f"${{{name[1]}}} stands for no setting that there is: check what is written between ${{ and }}."
    if folder := re.match(r"Additional config directory '(.+)' not found", text):
        return f"There is no folder {folder[1]}: check --config-dir."
    if mark := getattr(error, "problem_mark", None):
        return f"{mark.name}, line {mark.line + 1}, is no YAML ({getattr(error, 'problem', text)}): correct it."
    return text.partition(" Config search path")[0].partition(" full_key:")[0].replace("In 'config': ", "")


def refused_option(error: OmegaConfBaseException, arguments: Sequence[str]) -> str:
    """Return what is wrong with the one of a command's `key=value` arguments that its options have refused."""
    key = error.full_key or ""
    given = next((a for a in arguments if a.partition("=")[0] == key), f"{key}=…")
    return not_possible(given, " ".join(str(error).split()))


def _no_setting(key: str) -> str:
    everywhere, of_methods = _settings(), _settings_of_methods()
    if (of_launchers := _launchers_with(key)) and key not in everywhere:
        names = " or ".join(f"launcher={name}" for name in of_launchers)
        return f"{key} is a setting of another launcher: give {names} too."
    if key in everywhere or get_origin(everywhere.get(key.rpartition(".")[0])) is dict:  # which takes any key
        return f"{key} has no value here yet: write +{key}=… to give it one."
    listed = "`python -m harness method=NAME --cfg job` lists those of a method"
    if key in of_methods:
        return f"{key} is a setting of other methods ({', '.join(of_methods[key])}); {listed}."
    added = f", and +{key}=… adds an argument of the model" if key.startswith("method.") else ""
    return f"There is no setting {key} here{did_you_mean(key, everywhere.keys() | of_methods.keys())}; {listed}{added}."


def _launchers_with(key: str) -> list[str]:
    """Return the launchers that have a setting of their own of that name."""
    from harness.schema import LAUNCHERS

    group, _, name = key.partition(".")
    return [launcher for launcher, kind in LAUNCHERS.items() if group == "launcher" and name in get_type_hints(kind)]


def _no_choice(group: str, wanted: str, listed: str | None) -> str:
    if listed is None:
        return f"There is no {group}={wanted}: check the name, or give --config-dir=FOLDER with {group}/{wanted}.yaml."
    choices = listed.split()
    return f"There is no {group}={wanted}{did_you_mean(wanted, choices)}: choose one of {', '.join(choices)}."


def not_possible(override: str, reason: str) -> str:
    """Return what to give instead of a value that OmegaConf refuses for a reason of its own."""
    override = shown_argument(override)
    for pattern, wanted in _WANTED:
        if re.search(pattern, reason):
            return f"{override} is not possible; give {wanted}."
    return f"{override} is not possible: {reason.partition(' full_key:')[0]}"


def _settings() -> dict[str, Any]:
    """Return what can be set with any method, each with its type: groups, their keys, what is read of a method."""
    from harness.schema import METHOD_KEYS, Config

    return dict(_keys(Config, "")) | {f"method.{key}": Any for key in METHOD_KEYS}


def _settings_of_methods() -> dict[str, list[str]]:
    """Return the settings that methods bring with them, each with its methods."""
    import yaml

    from harness.choices import CONF_DIR

    found: dict[str, list[str]] = {}
    for path in sorted(CONF_DIR.glob("method/*.yaml")):
        for key in yaml.safe_load(path.read_text(encoding="utf-8")):
            found.setdefault(f"method.{key}", []).append(path.stem)
    return found


def _keys(kind: type[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    for name in (f.name for f in fields(kind)):
        yield prefix + name, hints[name]
        if is_dataclass(hints[name]):
            yield from _keys(hints[name], f"{prefix}{name}.")

"""What the command lines of all modules but `python -m harness` share: flags, `key=value`, and `--config-dir`."""

from __future__ import annotations

from argparse import ArgumentError, ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import ConfigError


class Given(NamedTuple):
    """A command line.

    Attributes:
        flags: value by name: True for a switch that is there, text for an option; None for one that is not.
        overrides: what is no flag.
        config_dir: folder of a configuration of the user's own.
    """

    flags: dict[str, Any]
    overrides: list[str]
    config_dir: str | None

    @property
    def searchpath(self) -> list[str]:
        """Where Hydra finds the user's own configuration, as an override in a list; [] without one."""
        return searchpath(self.config_dir)


def split(arguments: Sequence[str], switches: Sequence[str] = (), options: Sequence[str] = ()) -> Given:
    """Part a command line into flags and the rest.

    Args:
        arguments: of the command line.
        switches: flags without a value, such as `--json`.
        options: flags with one.

    Raises:
        ConfigError: for a flag without its value, and a folder of settings that does not exist.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd")
    for switch in switches:
        parser.add_argument(switch, action="store_true", default=None)
    for option in options:
        parser.add_argument(option)
    try:
        found, rest = parser.parse_known_args(list(arguments))
    except ArgumentError as error:
        raise ConfigError(
            f"{error.argument_name} cannot be read ({error.message}); --help lists the options."
        ) from error
    flags = vars(found)
    folder = flags.pop("config_dir")
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"There is no folder {folder}: check --config-dir.")
    return Given(flags, rest, folder)


def require_assignments(arguments: Sequence[str], command: str) -> None:
    """Refuse what is neither `key=value` nor `~key`.

    Args:
        arguments: without flags.
        command: as a sentence calls it, such as `the status`.

    Raises:
        ConfigError: naming the first of them.
    """
    if strange := [a for a in arguments if a.startswith("-") or ("=" not in a and not a.startswith("~"))]:
        raise ConfigError(f"'{strange[0]}' is no option of {command}: write key=value; --help lists the options.")


def searchpath(folder: str | None) -> list[str]:
    """Return the override that adds a folder to those where Hydra looks, in a list; [] for None."""
    if folder is None:
        return []
    place = str(Path(folder).resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return [f"hydra.searchpath=['file://{place}']"]

"""The choices of the configuration, by the names of its files: for help and completion, which are to come at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# In the order in which people choose; the rest of a run's groups follows.
FIRST = ("method", "dataset", "protocol", "experiment", "preprocess", "backbone", "trainer", "launcher")
NOT_OF_A_RUN = ("search",)  # read by harness.tune


def _find_conf_dir() -> Path:
    """Return the configuration tree: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


CONF_DIR = _find_conf_dir()


def groups(folders: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Return the choices of every group of a run, sorted; those of own configuration folders too.

    Args:
        folders: given with `--config-dir`.
    """
    found: dict[str, set[str]] = {}
    for path in (path for folder in (CONF_DIR, *folders) for path in folder.glob("*/*.yaml")):
        found.setdefault(path.parent.name, set()).add(path.stem)
    rest = sorted(found.keys() - {*FIRST, *NOT_OF_A_RUN, "hydra"})
    return {group: sorted(found[group]) for group in (*FIRST, *rest) if group in found}


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folder that a command line names with `--config-dir`, in a list; [] without one."""
    flags = ("--config-dir", "-cd")
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        flag, _, value = argument.partition("=")
        if flag in flags and (value or following):
            return [Path(value or following)]
    return []

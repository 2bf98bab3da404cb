"""What the command line of the audit can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.arguments import require_assignments, split
from harness.errors import ConfigError

USAGE = """python -m harness.audit method=NAME,NAME [key=value ...] [--json FILE] [--csv FILE] [--markdown FILE]

  Runs every cell of a grid again: in the same process, with its features written to the store and read from it, with
  two loader workers, in another process, there after another run, and with two torch threads. Says for each the largest
  difference to the first run, over all metrics of all epochs and all scores of images. The store of your runs is
  neither read nor written.

    python -m harness.audit method=radl,patchcore quick=true
    python -m harness.audit method=padim dataset=folder dataset.root=photos category=gear trainer.device=cuda

  --json FILE       everything that was compared, as JSON
  --csv FILE        the same as a table: cell, comparison, metric, difference
  --markdown FILE   the largest differences, for an appendix or a README
  --config-dir DIR  where a configuration of your own lies

  On a CPU every comparison must be exact but that of threads, which add in another order. On a GPU, whose libraries do
  not promise as much, differences are told and are no failure.

Exit codes: 0 exact, or computed on a GPU; 1 not exact on a CPU, a run failed, or the command is wrong."""


_FILES = ("--json", "--csv", "--markdown")


@dataclass(frozen=True)
class Options:
    """One command."""

    overrides: list[str]
    searchpath: list[str]
    json: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None


def parse(arguments: Sequence[str]) -> Options:
    """Return the options of a command line.

    Raises:
        ConfigError: when an argument is no assignment and no option.
    """
    given = split(arguments, ("--multirun", "-m"), _FILES)
    others = given.overrides
    require_assignments(others, "the audit")
    if fixed := [o for o in others if o.lstrip("+").startswith(("tracking.", "features.store", "features.directory"))]:
        raise ConfigError(f"{fixed[0]} is not possible: the audit has stores of its own.")
    flags = [given.flags[option.lstrip("-")] for option in _FILES]
    files = [None if flag is None else Path(flag) for flag in flags]
    for path in files:
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"There is no folder {path.absolute().parent}: make it, or name another file.")
    return Options(others, given.searchpath, *files)

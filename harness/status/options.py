"""What the command line of the status can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.arguments import require_assignments, searchpath, split
from harness.errors import ConfigError

USAGE = """python -m harness.status [key=value ...] [--watch] [--json]

  Shows what is at work, finished, failed and died in the store, by experiment. With the overrides of a sweep it shows
  what is left of that grid, and for how long:

    python -m harness.status
    python -m harness.status method=radl,patchcore 'seed=range(8)'
    python -m harness.status experiment=toy --watch

  method=… dataset=… seed=… …   of a grid, as for python -m harness -m
  tracking.directory=DIR   where runs lie (default: runs); tracking.uri=URI for another store
  --config-dir DIR         where a configuration of your own lies
  --watch, watch=SECONDS   again every 5 seconds, or as many, until nothing of the grid is left, or Ctrl-C; where runs
                           have failed or died, until nothing has changed for two minutes
  --json                   one line of JSON, for scripts

  at work: its process lives. died: its process is gone, and the same command runs it again. silent: a run of another
  host that has not been heard of for ten minutes. A run that is finished counts as finished, whatever came before.

Exit codes: 0 nothing has failed or died, 1 it cannot be told, 2 something has failed, died or cannot be run."""

WATCH_SECONDS = 5.0


@dataclass(frozen=True)
class Options:
    """One command.

    Attributes:
        overrides: of a grid; [] for everything in the store.
        tracking: overrides that name the store.
        watch: seconds between two looks; None for one look.
    """

    overrides: list[str]
    tracking: list[str]
    config_dir: str | None = None
    watch: float | None = None
    json: bool = False

    @property
    def searchpath(self) -> list[str]:
        """Where Hydra finds the user's own configuration, as an override."""
        return searchpath(self.config_dir)


def parse(arguments: Sequence[str]) -> Options:
    """Return the options of a command line.

    Raises:
        ConfigError: when an argument is no assignment and no option.
    """
    switches = ("--watch", "--json", "--multirun", "-m")  # -m of the sweep's command: a grid is a grid without it
    flags, others, config_dir = split(arguments, switches)
    require_assignments(others, "the status")
    watch = [o.partition("=")[2] for o in others if o.startswith("watch=")]
    others = [o for o in others if not o.startswith(("watch=", "dry="))]
    tracking = [o for o in others if o.lstrip("+").startswith("tracking.")]
    overrides = [o for o in others if o not in tracking]
    seconds = _seconds(watch[-1]) if watch else WATCH_SECONDS if flags["watch"] else None
    return Options(overrides, tracking, config_dir, seconds, bool(flags["json"]))


def _seconds(text: str) -> float | None:
    if text == "false":
        return None
    try:
        seconds = WATCH_SECONDS if text == "true" else float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise ConfigError(f"watch={text} is not possible; give seconds, as watch=5.")
    return seconds

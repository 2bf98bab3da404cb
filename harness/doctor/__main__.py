"""The command line of the doctor."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.arguments import require_assignments, split
from harness.entry import call
from harness.errors import ConfigError, HarnessError
from harness.terminal import counted, is_terminal

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from harness.doctor.checks import Finding

USAGE = """python -m harness.doctor [key=value ...]

  Looks at everything that a run stands on and says, a line each, whether it is OK or what to do. Nothing is run,
  downloaded or changed. The overrides are those of the command that is to be run:

    python -m harness.doctor
    python -m harness.doctor dataset=folder dataset.root=photos category=all method=patchcore launcher=local

  --config-dir DIR   where a configuration of your own lies

Exit codes: 0 nothing stops a run, 1 something does."""

_COLOURS = {"OK": "32", "warning": "33", "error": "31"}


def main(arguments: Sequence[str]) -> int:
    """Print what is found; return the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    from harness.data.looking import looking

    found: list[Finding] = []
    with looking():
        for finding in _findings(arguments):
            if finding not in found:  # several combinations share much
                found.append(finding)
                print(_line(finding), flush=True)
    states = [finding.state for finding in found]
    errors, warnings = states.count("error"), states.count("warning")
    told = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    print(f"\n{'A run would be stopped' if errors else 'Nothing stops a run'}: {told}.")
    return 1 if errors else 0


def _line(finding: Finding) -> str:
    state = f"{finding.state:<8}"
    if is_terminal(sys.stdout) and not os.environ.get("NO_COLOR"):
        state = f"\x1b[{_COLOURS[finding.state]}m{state}\x1b[0m"
    return f"{state} {finding.subject + ':':<10} {' '.join(finding.text.split())}"


def _findings(arguments: Sequence[str]) -> Iterator[Finding]:
    from harness.doctor import machine
    from harness.doctor.checks import asked, error

    yield from asked("Python", machine.python)
    yield from asked("Libraries", machine.libraries)
    combinations = []
    try:
        combinations = _combinations(arguments)
    except HarnessError as failure:
        yield error("Settings", str(failure))
    yield from _of_machine(combinations or [_without_mistake(arguments)])
    for config in combinations:
        yield from _of_combination(config)
    yield from asked("Report", machine.report)


def _of_machine(combinations: Sequence[DictConfig]) -> Iterator[Finding]:
    """Look at what all combinations share."""
    from harness.doctor import combination, machine, store
    from harness.doctor.checks import asked

    config = combinations[0]
    methods = sorted({one.method.name for one in combinations})
    yield from asked("torch", lambda: machine.torch(config))
    yield from asked("Cores", lambda: machine.cores(config, store.memory_peaks(config, methods)))
    yield from asked("Disk", lambda: machine.disk(config, store.features_size(config)))
    yield from asked("Store", lambda: store.store(config))
    yield from asked("Launcher", lambda: combination.launcher(config))


def _of_combination(config: DictConfig) -> Iterator[Finding]:
    from harness.doctor import combination
    from harness.doctor.checks import asked

    yield from asked("Settings", lambda: combination.settings(config))
    yield from asked("Data", lambda: combination.images(config))
    yield from asked("Weights", lambda: combination.weights(config))


def _combinations(arguments: Sequence[str]) -> list[DictConfig]:
    """Return the configurations of a command: of a grid, one for all seeds, folds and categories.

    Raises:
        HarnessError: when it cannot be composed.
    """
    from hydra.errors import HydraException

    from harness.grid import expand, split_launcher
    from harness.schema import compose, explain

    given = split(arguments, ("--multirun", "-m"))
    require_assignments(given.overrides, "the doctor")
    try:
        own, launcher = split_launcher([*given.overrides, *given.searchpath])
        everything = [o for o in own if o in ("category=all", "category='all'")]
        cells = expand([o for o in own if o not in everything], compose)
        repeats = ("seed=", "protocol.fold=") if len(cells) > 1 else ()
        categories = {o for cell in cells for o in cell.overrides if o.startswith("category=")}
        if len(categories) > 1:
            repeats, everything = (*repeats, "category="), ["category=all"]
        kept = dict.fromkeys(tuple(o for o in cell.overrides if not o.startswith(repeats)) for cell in cells)
        return [compose([*one, *everything, *launcher]) for one in kept]
    except HydraException as failure:
        raise ConfigError(explain(failure)) from failure


def _without_mistake(arguments: Sequence[str]) -> DictConfig:
    """Return a configuration for the checks of the machine where the one that is asked for cannot be composed."""
    from harness.schema import compose

    try:
        return compose([o for o in arguments if o.startswith(("tracking.", "trainer.", "launcher"))])
    except HarnessError:
        return compose()


if __name__ == "__main__":
    sys.exit(call(main, "harness.doctor"))

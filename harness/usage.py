"""What `python -m harness --help` prints; made without Hydra, whose import alone takes half a second."""

from __future__ import annotations

from collections.abc import Sequence

from harness.choices import config_folders, groups

_HEAD = """python -m harness [-m] [key=value ...]

  python -m harness                                             one run: RADL on the embedded toy data
  python -m harness -m method=radl,patchcore 'seed=range(8)'    a grid of runs; again: only what is not finished
  python -m harness -m experiment=toy dry=true                  how many runs, how many finished, what the rest costs
  python -m harness --cfg job method=padim                      every setting, with its value

Choices (group=name; with -m several, separated by commas):

"""
_TAIL = """
Settings (key=value; any other key is listed by --cfg job):

  category=NAME        of the data set; with -m also all
  seed=0               with -m also 'range(8)'
  dataset.root=FOLDER  where the images lie
  quick=true           everything in its smallest form: to see that a command runs
  dry=true             list the runs, and estimate what they cost
  timing=true          measure times for a speed table
  tracking.directory=runs   where runs lie; tracking.uri=URI for an MLflow server

Options:

  -m, --multirun       run a grid
  --config-dir DIR     where a configuration of your own lies
  --cfg job            print the configuration instead of running it
  --debug              print tracebacks
  --hydra-help         options of Hydra's

Other commands, each with --help: python -m harness.report, .tune, .status, .doctor, .audit, .data, .completion

Exit codes: 0 everything asked for is finished, or not possible with these images (where an experiment says which it
needs); 1 something failed, cannot be run or is at work elsewhere; 130 interrupted."""


def usage(arguments: Sequence[str] = ()) -> str:
    """Return the help of `python -m harness`: what it can be asked, and all choices there are.

    Args:
        arguments: of the command line, for its `--config-dir`.
    """
    lines = [f"{group}: {', '.join(names)}" for group, names in groups(config_folders(arguments)).items()]
    return _HEAD + "\n".join(lines) + "\n" + _TAIL

"""What the command line of the report can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.arguments import split
from harness.errors import ConfigError, did_you_mean

HOLM, BENJAMINI_HOCHBERG = "holm", "bh"  # corrections of p values
USAGE = """python -m harness.report [experiment=NAME] [option=value ...]

  experiment=NAME      the study to report; without it, everything finished in the store
  tracking.uri=URI     the MLflow store (default: sqlite:///runs/mlflow.db)
  tracking.directory=DIR   where runs lie (default: runs)
  reports_dir=DIR      where the report goes (default: reports)
  name=NAME            its folder there (default: the experiment's name, or all)
  tables=[a,b]         tables of these metrics only, such as image_auroc or time/train
  filter="FILTER"      of these runs only, in MLflow's search syntax: "tags.harness.method = 'radl'"
  correction=holm      of p values for the number of tests: holm, or bh (Benjamini and Hochberg)
  strict=true          refuse to render when a cell of the grid has no finished run
  dataset=… seed=… …   what the experiment was run with besides its name, to find the same cells
  --config-dir DIR     where a configuration of your own lies

python -m harness.report explain 'method=NAME category=NAME metric=NAME' [experiment=NAME]
  prints how a number of a table came to be: its runs, their values and settings, the mean and the tests

Exit codes: 0 rendered, 1 nothing to render, 2 a cell of the grid has no finished run."""


@dataclass
class TrackingOptions:
    """Which store is read."""

    directory: str = "runs"
    uri: str = "sqlite:///${tracking.directory}/mlflow.db"


@dataclass
class ReportOptions:
    """One report."""

    experiment: str | None = None
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    reports_dir: str = "reports"
    name: str | None = None
    tables: list[str] = field(default_factory=list)
    filter: str | None = None
    correction: str = HOLM
    strict: bool = False
    overrides: list[str] = field(default_factory=list)  # of the experiment's configuration
    config_dir: str | None = None


def parse(arguments: Sequence[str]) -> ReportOptions:
    """Return the options of `key=value` arguments; with an experiment, other keys are its configuration's.

    Raises:
        ConfigError: when an argument is no assignment, or its key or type does not exist.
    """
    _, arguments, config_dir = split(arguments)
    names = {f.name for f in fields(ReportOptions)} - {"overrides", "config_dir", "tracking"}
    names |= {"tracking.uri", "tracking.directory"}
    own = [argument for argument in arguments if argument.partition("=")[0] in names]
    others = [argument for argument in arguments if argument not in own]
    possible = ", ".join(sorted(names))
    of_grid = any(o.startswith("experiment=") for o in own)
    if strange := [a for a in others if a.startswith("-") or "=" not in a or not of_grid]:
        near = did_you_mean(strange[0].partition("=")[0], names)
        raise ConfigError(f"'{strange[0]}' is no option of the report{near}: write key=value with one of {possible}.")
    try:
        given = OmegaConf.from_dotlist(own)
        if isinstance(given.get("tables"), str):
            given.tables = str(given.tables).split(",")
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ReportOptions), given))
    except OmegaConfBaseException as error:
        from harness.hydra_errors import refused_option  # Hydra takes a third of a second: not for --help

        raise ConfigError(refused_option(error, own)) from error
    assert isinstance(options, ReportOptions)
    if options.correction not in (HOLM, BENJAMINI_HOCHBERG):
        raise ConfigError(f"correction={options.correction} is not possible; give holm or bh.")
    options.overrides, options.config_dir = others, config_dir
    return options

"""What the command line of the report can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import ConfigError

USAGE = """python -m harness.report [experiment=NAME] [option=value ...]

  experiment=NAME      the study to report; without it, everything finished in the store
  tracking.uri=URI     the MLflow store (default: sqlite:///runs/mlflow.db)
  reports_dir=DIR      where the report goes, in a folder of the experiment's name (default: reports)
  metrics=[a,b]        tables of these metrics only, such as image_auroc or time/train
  strict=true          refuse to render when a cell of the grid has no finished run

Exit codes: 0 rendered, 1 nothing to render, 2 a cell of the grid has no finished run."""


@dataclass
class TrackingOptions:
    """Which store is read."""

    uri: str = "sqlite:///runs/mlflow.db"


@dataclass
class ReportOptions:
    """One report."""

    experiment: str | None = None
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    reports_dir: str = "reports"
    metrics: list[str] = field(default_factory=list)
    strict: bool = False


def parse(arguments: Sequence[str]) -> ReportOptions:
    """Return the options of `key=value` arguments.

    Raises:
        ConfigError: when an argument is no assignment, or its key or type does not exist.
    """
    possible = ", ".join(f.name if f.name != "tracking" else "tracking.uri" for f in fields(ReportOptions))
    for argument in arguments:
        if "=" not in argument:
            raise ConfigError(f"'{argument}' is no option: write key=value with one of {possible}.")
    try:
        given = OmegaConf.from_dotlist(list(arguments))
        if isinstance(given.get("metrics"), str):
            given.metrics = str(given.metrics).split(",")
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ReportOptions), given))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"The report has no such option ({reason}); possible are {possible}.") from error
    assert isinstance(options, ReportOptions)
    return options

"""What the command line of the tuning can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.arguments import require_assignments, split
from harness.errors import ConfigError, did_you_mean

USAGE = """python -m harness.tune method=NAME category=NAME [option=value ...]

  method=… dataset=… category=… seed=… …   the run to tune, as for python -m harness; one of each
  protocol=NAME            where the validation images come from; without one in the configuration, and with
                           an objective on them: validated_synthetic
  tune.trials=50           trials of the study, finished and pruned ones; the same command goes on with it
  tune.objective=METRIC    chosen on (default: val/image_auroc); what is called loss or aql is minimised. A metric
                           test/… chooses on the test images: every run and report that uses the result says so
  tune.jobs=1              trials at once, each in a process of its own; several commands may share a study too
  tune.search=NAME|FILE    search space (default: search/METHOD.yaml of the configuration, or of what METHOD inherits)
  tune.prune=true          stop trials that do worse than the median of the others at the same epoch
  tune.timeout=SECONDS     start no trial after that time
  tune.name=NAME           the study's name (default: method, category and a hash of everything that matters)
  tracking.directory=DIR   where runs, study and best configuration lie (default: runs)
  reports_dir=DIR          where the study's report goes (default: reports)
  --config-dir DIR         where a configuration of your own lies

Exit codes: 0 done, 1 an error or no finished trial, 130 interrupted."""


@dataclass
class TuneOptions:
    """One study."""

    trials: int = 50
    objective: str = "val/image_auroc"
    jobs: int = 1
    name: str | None = None
    search: str | None = None
    prune: bool = True
    timeout: float | None = None  # seconds


@dataclass
class Options:
    """One command."""

    tune: TuneOptions = field(default_factory=TuneOptions)
    reports_dir: str = "reports"
    overrides: list[str] = field(default_factory=list)  # of the run's configuration
    config_dir: str | None = None


def parse(arguments: Sequence[str]) -> Options:
    """Return the options of `key=value` arguments; other keys are the run's configuration.

    Raises:
        ConfigError: when an argument is no assignment, or an option does not exist or has no meaning.
    """
    _, arguments, config_dir = split(arguments)
    own = [a for a in arguments if a.startswith("tune.") or a.partition("=")[0] == "reports_dir"]
    others = [argument for argument in arguments if argument not in own]
    require_assignments(others, "the tuning")
    if launched := [a for a in others if a.lstrip("+~").startswith("launcher")]:
        raise ConfigError(f"{launched[0]} belongs to sweeps: here tune.jobs=N says how many trials go at once.")
    names = [f"tune.{f.name}" for f in fields(TuneOptions)]
    if unknown := [a for a in own if a.startswith("tune.") and a.partition("=")[0] not in names]:
        near = did_you_mean(unknown[0].partition("=")[0], names)
        raise ConfigError(f"{unknown[0]} is no option of the tuning{near}: there are {', '.join(names)}.")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Options), OmegaConf.from_dotlist(own))
        options = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        from harness.hydra_errors import refused_option  # Hydra takes a third of a second: not for --help

        raise ConfigError(refused_option(error, own)) from error
    assert isinstance(options, Options)
    _validate(options.tune)
    options.overrides, options.config_dir = others, config_dir
    return options


def _validate(tune: TuneOptions) -> None:
    for name in ("trials", "jobs"):
        if getattr(tune, name) < 1:
            raise ConfigError(f"tune.{name}={getattr(tune, name)} is not possible; give a whole number of at least 1.")
    if tune.timeout is not None and tune.timeout <= 0:
        raise ConfigError(f"tune.timeout={tune.timeout} is not possible; give seconds above 0.")
    if tune.objective.partition("/")[0] not in ("val", "test", "train") or "/" not in tune.objective:
        raise ConfigError(
            f"tune.objective={tune.objective} is not possible; give a metric of an epoch: val/…, train/… or, to choose "
            "on the test images, test/…."
        )

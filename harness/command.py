"""What `python -m harness` does, once it is more than a question for help: Hydra is told what to run."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from harness.cells import run_cell
from harness.choices import CONF_DIR
from harness.entry import HYDRA_DEBUG
from harness.errors import ConfigError
from harness.grid import ADD_M, require_single
from harness.runs.outcome import Outcome
from harness.schema import register
from harness.sentences import told
from harness.summary import described
from harness.sweeper import GridSweeper

_WITH_VALUE = (
    *("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c"),
    "--experimental-rerun",
)
_INFO, _INFORMATION = ("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code: 0 when everything asked for is finished, 1 when not.

    Raises:
        HarnessError, HydraException: when it asks for what cannot be done.
    """
    arguments = _options_first(arguments)
    parsed, unknown = get_args_parser().parse_known_args(arguments)
    if unknown:
        raise ConfigError(f"{unknown[0]} is no option: `python -m harness --help` lists them.")
    overrides = [o for o in parsed.overrides if not o.lstrip("+~").startswith("hydra")]
    register()
    sys.path.append(str(Path(__file__).parent / "plugins"))
    Plugins.instance().register(GridSweeper)
    single: list[Outcome] = []
    if parsed.multirun:
        GridSweeper.requested, GridSweeper.config_dir = overrides, parsed.config_dir
        arguments = [argument for argument in arguments if argument not in overrides]
    elif not (parsed.hydra_help or parsed.cfg or parsed.info):
        require_single(overrides)

    def task(config: DictConfig) -> Outcome:
        try:
            single.append(_run_single(config))
        except Exception as error:  # Hydra would print all overrides, a tracking URI's password among them
            single.append(Outcome("failed", reason=told(error)))
        return single[-1]

    sys.argv = [sys.argv[0], *arguments]
    with _hydra_raises():
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(
            run_cell if parsed.multirun else task
        )()
    return _conclude(single[0]) if single else 0


def _run_single(config: DictConfig) -> Outcome:
    if config.grids:
        return Outcome("failed", reason=ADD_M.format(f"experiment={config.experiment}"))
    if config.dry:
        from harness.plan import show_single

        sys.exit(show_single(config))
    return run_cell(config)


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra's errors come up to us: else it prints them, with advice that does not hold here, and leaves."""
    given = os.environ.get(HYDRA_DEBUG)
    os.environ[HYDRA_DEBUG] = "1"
    try:
        yield
    finally:
        if given is None:
            del os.environ[HYDRA_DEBUG]
        else:
            os.environ[HYDRA_DEBUG] = given


def _options_first(arguments: Sequence[str]) -> list[str]:
    """Return a command line with its options before the overrides: argparse knows them nowhere in between."""
    options: list[str] = []
    rest: list[str] = []
    left = deque(arguments)
    while left:
        argument = left.popleft()
        has_value = argument in _WITH_VALUE or (argument in _INFO and left and left[0] in _INFORMATION)
        if argument in _INFO and not has_value:  # an override would be taken for what it is to tell
            argument = "--info=all"
        (options if argument.startswith("-") else rest).append(argument)
        if has_value and left:
            options.append(left.popleft())
    return [*options, *rest]


def _conclude(outcome: Outcome) -> int:
    """Print what became of a single run."""
    if outcome.status in ("failed", "busy"):
        print(outcome.reason, file=sys.stderr)
        return 1
    print(described(outcome))
    return 0

"""`python -m harness`: one run, or with -m a grid of runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before torch is imported: idle OpenMP threads must not spin on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")  # the harness has one line of its own a run

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig

from harness.cells import run_cell
from harness.entry import call
from harness.errors import HarnessError
from harness.grid import ADD_M, require_single
from harness.runs.outcome import Outcome
from harness.schema import CONF_DIR, register
from harness.summary import described
from harness.sweeper import GridSweeper


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 when everything asked for is finished, 1 when not."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parsed = get_args_parser().parse_args(arguments)
    overrides = [o for o in parsed.overrides if not o.lstrip("+~").startswith("hydra")]
    register()
    sys.path.append(str(Path(__file__).parent / "plugins"))
    Plugins.instance().register(GridSweeper)
    single: list[Outcome] = []
    try:
        if parsed.multirun:
            GridSweeper.requested, GridSweeper.config_dir = overrides, parsed.config_dir
            arguments = [argument for argument in arguments if argument not in overrides]
        elif not (parsed.help or parsed.hydra_help or parsed.cfg or parsed.info):
            require_single(overrides)
    except (HarnessError, HydraException) as error:
        print(error, file=sys.stderr)
        return 1

    def task(config: DictConfig) -> Outcome:
        if config.grids:
            single.append(Outcome("failed", reason=ADD_M.format(f"experiment={config.experiment}")))
        elif config.dry:
            from harness.plan import show_single

            sys.exit(show_single(config))
        else:
            single.append(run_cell(config))
        return single[-1]

    sys.argv = [sys.argv[0], *arguments]
    hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(
        run_cell if parsed.multirun else task
    )()
    return _conclude(single[0]) if single else 0


def _conclude(outcome: Outcome) -> int:
    """Print what became of a single run."""
    if outcome.status in ("failed", "busy"):
        print(outcome.reason, file=sys.stderr)
        return 1
    print(described(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(call(main, "harness"))

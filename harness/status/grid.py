"""How a grid stands: what of it is finished, what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from omegaconf import DictConfig

from harness.data.looking import AwaitedError, looking
from harness.data.readers import dataset_name
from harness.errors import ConfigError, HarnessError, WindowError
from harness.estimate import Past, examine
from harness.grid import Cell, expand
from harness.identity import Identity
from harness.runs.overview import SeenRun, latest_by_key
from harness.schema import compose, one_line
from harness.status.state import LACKING, LEFT, REFUSED, AtWork, Standing, foresee, rest
from harness.summary import name_of, swept_keys


@dataclass(frozen=True)
class _Asked:
    """A cell of the grid that can be run."""

    row: tuple[str, ...]
    config: DictConfig
    identity: Identity


@dataclass(frozen=True)
class _Awaited:
    """A cell whose images its run downloads: it has no identity before."""

    cell: Cell
    row: tuple[str, ...]
    why: str
    name: str


def _row(config: DictConfig) -> tuple[str, str]:
    return config.method.name, f"{dataset_name(config.dataset)} {config.preprocess.size} px"


class Grid:
    """The cells of a grid: named once, however often the store is looked at.

    Args:
        overrides: of the command line.
        fixed: overrides of every cell: tracking and search path.
    """

    def __init__(self, overrides: Sequence[str], fixed: Sequence[str]) -> None:
        self._compose_cached = lru_cache(maxsize=4)(compose)  # seeds share a configuration
        self._asked: dict[str, _Asked] = {}
        self._refused: list[tuple[str, str, str]] = []  # state, why, name
        self._awaited: list[_Awaited] = []
        self._doubles = 0
        with looking():
            cells = expand([*overrides, *fixed], compose)
        swept = swept_keys(cells)
        for cell in cells:
            self._add(cell, name_of(cell, swept))
        self.total = len(cells)

    def _add(self, cell: Cell, name: str) -> None:
        try:
            if cell.problem is not None:
                raise ConfigError(cell.problem)
            config = self._config(cell)
            identity = examine(config)
        except AwaitedError as error:
            self._awaited.append(_Awaited(cell, _row(config), one_line(error), name))
        except WindowError as error:
            lacking = LACKING, f"It needs {cell.needs}.", name
            self._refused.append(lacking if cell.needs else (REFUSED, one_line(error), name))
        except HarnessError as error:
            self._refused.append((REFUSED, one_line(error), name))
        else:
            self._doubles += identity.key in self._asked
            self._asked.setdefault(identity.key, _Asked(_row(config), config, identity))

    def _config(self, cell: Cell) -> DictConfig:
        seeds = [o for o in cell.overrides if o.startswith("seed=") and o.removeprefix("seed=").isdigit()]
        rest = tuple(o for o in cell.overrides if o not in seeds)
        if len(seeds) != 1:
            return compose(cell.overrides)
        config = self._compose_cached(rest).copy()
        config.seed = int(seeds[0].removeprefix("seed="))
        return config

    def _look_again(self) -> None:
        """Name the cells whose images have come since the last look."""
        awaited, self._awaited = self._awaited, []
        for one in awaited:
            self._add(one.cell, one.name)

    def standing(self, runs: Sequence[SeenRun]) -> Standing:
        """Return how the grid stands, by what is in the store."""
        past, latest = Past(runs), latest_by_key(runs)
        self._look_again()
        standing = Standing(total=self.total - self._doubles)
        estimates: list[float | None] = []
        for key, asked in self._asked.items():
            cost = past.estimate(asked.config, asked.identity)
            seconds = cost.seconds if cost else None
            run = latest.get(key)
            state = LEFT if run is None else run.state
            standing.count(asked.row, state)
            if run is not None:
                standing.add(run)
            if run is not None and run.state == "at work":
                standing.at_work.append(AtWork(run, run.seconds, rest(run, seconds)))
            elif state not in ("finished", "pruned"):
                estimates.append(seconds)
        for one in self._awaited:
            standing.count(one.row, LEFT)
            standing.reasons[LEFT][one.why].append(one.name)
            estimates.append(None)
        for state, why, name in self._refused:
            standing.refused[state] += 1
            standing.reasons[state][why].append(name)
        foresee(standing, estimates)
        return standing

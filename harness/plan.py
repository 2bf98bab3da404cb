"""`dry=true`: what a grid would run and cost, judged by the runs that are in the store."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from omegaconf import DictConfig, open_dict
from rich.table import Table

from harness import terminal
from harness.data.looking import AwaitedError
from harness.data.readers import dataset_name
from harness.errors import HarnessError, WindowError
from harness.estimate import Past, examine
from harness.grid import Cell
from harness.runs.overview import folder_size, read
from harness.schema import one_line
from harness.terminal import counted, duration, space


@dataclass
class _Planned:
    """The runs of a method on a category, of one size."""

    finished: int = 0
    left: int = 0
    seconds: list[float] = field(default_factory=list)  # of those left, where they can be estimated
    artifacts: list[float] = field(default_factory=list)  # bytes
    grounds: set[str] = field(default_factory=set)


def show_plan(cells: Sequence[Cell], legal: Callable[[Cell], DictConfig], tracking: DictConfig, jobs: int) -> int:
    """Print the plan of a grid; return the exit code: 0, or 1 when cells cannot be run.

    Args:
        cells: of the grid.
        legal: composes a cell, or says why it cannot be run.
        tracking: the store.
        jobs: runs at once.
    """
    plan = _Plan(Past(read(tracking.uri)))
    for cell in cells:
        try:
            config = legal(cell)
            with open_dict(config):
                config.pop("hydra", None)  # what Hydra keeps there is no part of a run
            plan.add(config)
        except WindowError as error:
            refused = plan.impossible if cell.needs else plan.failed
            refused[cell.needs or one_line(error)] += 1
        except HarnessError as error:
            plan.failed[one_line(error)] += 1
    _print(plan, Path(tracking.directory), jobs, len(cells))
    return 1 if plan.failed else 0


def show_single(config: DictConfig) -> int:
    """Print the plan of one run; return the exit code."""
    return show_plan([Cell(())], lambda _: config, config.tracking, 1)


@dataclass
class _Plan:
    """What is to be run, by method and images, and how many cells cannot be: by why, and by what they need.

    `awaited` are runs whose images they download themselves: whether one is finished is not known before.
    """

    past: Past
    places: dict[tuple[str, str], _Planned] = field(default_factory=lambda: defaultdict(_Planned))
    failed: Counter[str] = field(default_factory=Counter)
    impossible: Counter[str] = field(default_factory=Counter)
    awaited: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)

    def add(self, config: DictConfig) -> None:
        """Add a run, once: several cells can ask for it.

        Raises:
            HarnessError: when it could not be run.
        """
        images = f"{dataset_name(config.dataset)}/{config.category} {config.preprocess.size} px"
        try:
            identity = examine(config)
        except AwaitedError as error:
            self.awaited[one_line(error)] += 1
            self.places[config.method.name, images].left += 1
            return
        if identity.key in self.keys:
            return
        self.keys.add(identity.key)
        place = self.places[config.method.name, images]
        if identity.key in self.past.finished:
            place.finished += 1
            return
        place.left += 1
        if cost := self.past.estimate(config, identity):
            place.seconds.append(cost.seconds)
            place.artifacts.append(cost.artifacts)
            place.grounds.add(cost.ground)


def _print(plan: _Plan, directory: Path, jobs: int, cells: int) -> None:
    console = terminal.console()
    if plan.places:
        console.print(_table(plan))
    finished, left = (sum(getattr(place, name) for place in plan.places.values()) for name in ("finished", "left"))
    refused, lacking = plan.failed.total(), plan.impossible.total()
    doubles = cells - finished - left - refused - lacking
    console.print(
        f"{counted(cells, 'cell')}: {counted(finished)} finished, {left} to run"
        + (f", {doubles} the same as another" if doubles else "")
        + (f", {lacking} not possible with these images" if lacking else "")
        + (f", {refused} cannot be run" if refused else "")
        + "."
    )
    for line in _estimates(plan, left, jobs):
        console.print(line)
    if features := folder_size(directory / "features"):
        console.print(f"Stored features take {space(features)} now (features.limit_gib bounds them).")
    for reason, count in plan.awaited.items():
        console.print(f"No estimate for {counted(count)}. {reason}", soft_wrap=True)
    for needs, count in plan.impossible.items():
        console.print(f"{count} not possible with these images: {'it needs' if count == 1 else 'they need'} {needs}.")
    for reason, count in plan.failed.items():
        print(f"{count} cannot be run: {reason}", file=sys.stderr)


def _estimates(plan: _Plan, left: int, jobs: int) -> Iterator[str]:
    seconds = [second for place in plan.places.values() for second in place.seconds]
    artifacts = sum(size for place in plan.places.values() for size in place.artifacts)
    if seconds:
        at_once = f", {duration(sum(seconds) / jobs)} with {jobs} at once" if jobs > 1 else ""
        work = f"{duration(sum(seconds))} of work{at_once}"
        yield f"Estimate for {len(seconds)} of the {left}: {work}; {space(artifacts)} of artifacts."
    if unknown := left - len(seconds) - plan.awaited.total():
        empty = "" if plan.past.finished else ", for it is empty"
        yield (
            f"No ground to estimate {counted(unknown)}: the store has none of the same method and size{empty}. "
            "Run one of each, then ask again."
        )


def _table(plan: _Plan) -> Table:
    table = Table()
    for title in ("method", "images"):
        table.add_column(title, overflow="fold")
    for title in ("finished", "to run", "each", "in all"):
        table.add_column(title, justify="right")
    table.add_column("judged by")
    for (method, images), place in plan.places.items():
        each = duration(median(place.seconds)) if place.seconds else "–" if not place.left else "no ground"
        whole = duration(sum(place.seconds)) if place.seconds else "–"
        grounds = ", ".join(sorted(place.grounds))
        table.add_row(method, images, str(place.finished), str(place.left), each, whole, grounds)
    return table

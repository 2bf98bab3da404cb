"""`dry=true`: what a grid would run and cost, judged by the runs that are in the store."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from harness.data.protocols import split
from harness.errors import HarnessError, WindowError
from harness.grid import Cell
from harness.identity import epochs, identify, split_seed
from harness.runs.execute import refuse_large_window
from harness.runs.tracking import PastRun, past_runs
from harness.schema import one_line, validate

MIB = 2**20


@dataclass
class _Planned:
    """The runs of a method on a category, of one size."""

    finished: int = 0
    left: int = 0
    seconds: list[float] = field(default_factory=list)  # of those left, where they can be estimated
    mebibytes: list[float] = field(default_factory=list)
    grounds: set[str] = field(default_factory=set)


def show_plan(cells: Sequence[Cell], legal: Callable[[Cell], DictConfig], tracking: DictConfig, jobs: int) -> int:
    """Print the plan of a grid; return the exit code: 0, or 1 when cells cannot be run.

    Args:
        cells: of the grid.
        legal: composes a cell, or says why it cannot be run.
        tracking: the store.
        jobs: runs at once.
    """
    past = past_runs(tracking.uri)
    planned: dict[tuple[str, str, str], _Planned] = defaultdict(_Planned)
    failed: dict[str, list[Cell]] = defaultdict(list)
    impossible: dict[str, list[Cell]] = defaultdict(list)
    keys: set[str] = set()
    for cell in cells:
        try:
            config = legal(cell)
            validate(config)
            key = _add(planned, config, past, keys)
        except HarnessError as error:
            if cell.needs and isinstance(error, WindowError):
                impossible[cell.needs].append(cell)
            else:
                failed[one_line(error)].append(cell)
        else:
            keys.add(key)
    _print(planned, past, tracking, jobs, len(cells), failed, impossible)
    return 1 if failed else 0


def show_single(config: DictConfig) -> int:
    """Print the plan of one run; return the exit code."""
    return show_plan([Cell(())], lambda _: config, config.tracking, 1)


def _add(
    planned: dict[tuple[str, str, str], _Planned], config: DictConfig, past: dict[str, PastRun], keys: set[str]
) -> str:
    identity = identify(config)
    split(identity.category, config.protocol, split_seed(config, identity.fingerprint))
    refuse_large_window(config, identity)
    if identity.key in keys:  # several cells can ask for one run
        return identity.key
    place = planned[config.method.name, f"{identity.name}/{config.category}", f"{config.preprocess.size} px"]
    if identity.key in past:
        place.finished += 1
        return identity.key
    place.left += 1
    images = len(identity.category.samples)
    if ground := _ground(config, identity.fingerprint, list(past.values())):
        name, runs = ground
        place.seconds.append(median(run.seconds * _scale(config, images, run) for run in runs))
        place.mebibytes.append(median(run.mebibytes for run in runs))
        place.grounds.add(f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}{name}")
    return identity.key


def _ground(config: DictConfig, fingerprint: str, past: Sequence[PastRun]) -> tuple[str, list[PastRun]] | None:
    """Return the runs to judge by: of the same method and size, on the same images where there are some."""
    alike = [
        run
        for run in past
        if (run.method, run.size, run.timing) == (config.method.name, str(config.preprocess.size), config.timing)
    ]
    if same := [run for run in alike if run.fingerprint == fingerprint]:
        return "", same
    return (" on other images", alike) if alike else None


def _scale(config: DictConfig, images: int, run: PastRun) -> float:
    """Return how much more work a run is than one of the past: by epochs and images."""
    return epochs(config) / run.epochs * (images / run.images if run.images else 1.0)


def _print(
    planned: dict[tuple[str, str, str], _Planned],
    past: dict[str, PastRun],
    tracking: DictConfig,
    jobs: int,
    cells: int,
    failed: dict[str, list[Cell]],
    impossible: dict[str, list[Cell]],
) -> None:
    console = Console()
    if planned:
        console.print(_table(planned))
    finished, left = (sum(getattr(p, name) for p in planned.values()) for name in ("finished", "left"))
    seconds = sum(second for p in planned.values() for second in p.seconds)
    mebibytes = sum(mib for p in planned.values() for mib in p.mebibytes)
    known = sum(len(p.seconds) for p in planned.values())
    refused, lacking = (sum(map(len, of.values())) for of in (failed, impossible))
    doubles = cells - finished - left - refused - lacking
    console.print(
        f"{cells} cells: {finished} runs finished, {left} to run"
        + (f", {doubles} the same as another" if doubles else "")
        + (f", {lacking} not possible with these images" if lacking else "")
        + (f", {refused} cannot be run" if refused else "")
        + ".",
        highlight=False,
    )
    if known:
        at_once = f", {duration(seconds / jobs)} with {jobs} at once" if jobs > 1 else ""
        console.print(
            f"Estimate for {known} of the {left}: {duration(seconds)} of work{at_once}; "
            f"{_space(mebibytes * MIB)} of artifacts.",
            highlight=False,
        )
    if known < left:
        console.print(
            f"No ground to estimate {left - known} runs: the store has none of the same method and size"
            f"{'' if past else ', for it is empty'}. Run one of each, then ask again.",
            highlight=False,
        )
    if features := _size(Path(tracking.directory) / "features"):
        console.print(f"Stored features take {_space(features)} now (features.limit_gib bounds them).", highlight=False)
    for needs, of_needs in impossible.items():
        console.print(f"{len(of_needs)} not possible with these images: they need {needs}.", highlight=False)
    for reason, of_reason in failed.items():
        print(f"{len(of_reason)} cannot be run: {reason}", file=sys.stderr)


def _table(planned: dict[tuple[str, str, str], _Planned]) -> Table:
    table = Table()
    for title in ("method", "images"):
        table.add_column(title, overflow="fold")
    for title in ("finished", "to run", "each", "in all"):
        table.add_column(title, justify="right")
    table.add_column("judged by")
    for (method, place, size), p in planned.items():
        each = duration(median(p.seconds)) if p.seconds else "–" if not p.left else "no ground"
        whole = duration(sum(p.seconds)) if p.seconds else "–"
        table.add_row(
            method, f"{place} {size}", str(p.finished), str(p.left), each, whole, ", ".join(sorted(p.grounds))
        )
    return table


def duration(seconds: float) -> str:
    """Return seconds as people say them: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def _space(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{math.ceil(size / MIB)} MiB"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

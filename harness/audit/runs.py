"""Runs cells in their circumstances, in this process and in another one, in stores that are thrown away."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from harness.audit.comparison import (
    AFTER,
    COMPARED,
    FIRST,
    PROCESS,
    READ,
    THREADS,
    WRITTEN,
    Audited,
    Circumstance,
    Compared,
    Numbers,
    differences,
    numbers,
    store_of,
)
from harness.errors import ConfigError, HarnessError
from harness.grid import Cell
from harness.runs.outcome import Outcome
from harness.runs.overview import tag_of
from harness.schema import compose, one_line, register
from harness.summary import name_of, swept_keys
from harness.workers import Workers

Told = Callable[[str], None]


@dataclass(frozen=True)
class Executor:
    """Runs one cell; can be sent to another process."""

    def __call__(self, cell: Cell) -> Outcome:
        """Run a cell, whose overrides are complete."""
        from harness.runs.execute import execute

        try:
            return execute(_for_run(compose(cell.overrides)))
        except HarnessError as error:
            return Outcome("failed", reason=one_line(error))


def prepare() -> None:
    """Make a fresh process one that cells can run in."""
    register()


def _for_run(config: DictConfig) -> DictConfig:
    from omegaconf import open_dict

    with open_dict(config):
        del config.launcher  # as of every run: see harness.cells
    return config


class Audit:
    """Runs cells again and again, and compares.

    Args:
        cells: what is audited.
        searchpath: override that adds the user's configuration.
        folder: for stores and features; the caller throws it away.
        told: takes a line on everything that is done.
    """

    def __init__(self, cells: Sequence[Cell], searchpath: Sequence[str], folder: Path, told: Told) -> None:
        self._cells, self._searchpath, self._folder, self._told = cells, searchpath, folder, told
        swept = swept_keys(cells)
        self._audited = {cell: Audited(name_of(cell, swept) or "the run") for cell in cells}
        self._first: dict[Cell, Numbers] = {}
        self._execute = Executor()

    def run(self) -> list[Audited]:
        """Return the cells, each compared in all circumstances.

        The other process does all that it has to do with each cell first in its order, then in the reverse: so every
        cell has run before and after others.
        """
        self._make_stores()
        for cell in self._cells:
            self._run_first(cell)
            for circumstance in COMPARED:
                if not circumstance.elsewhere:
                    self._compare(cell, circumstance, self._execute)
        cells = [cell for cell in self._cells if cell in self._first]
        with Workers(1, self._execute, prepare) as workers:

            def elsewhere(cell: Cell) -> Outcome:
                ((_, outcome),) = workers.run([cell])
                return outcome

            for cell in cells:
                self._compare(cell, PROCESS, elsewhere)
            if len(cells) == 1:  # what runs before it: the same with another seed
                elsewhere(self._complete(Cell((*cells[0].overrides, "seed=12345")), AFTER))
            for cell in reversed(cells):
                for circumstance in (AFTER, THREADS):
                    self._compare(cell, circumstance, elsewhere)
        return list(self._audited.values())

    def _make_stores(self) -> None:
        """Make a store, and copies of it: MLflow takes seconds to make one."""
        from harness.runs.execute import quieten
        from harness.runs.tracking import Store

        quieten()
        shared = self._folder / "stand_ins"
        shared.mkdir()
        first, *others = (self._folder / one.folder for one in (FIRST, *COMPARED))
        Store(store_of(first), first)
        for place in others:
            place.mkdir()
            shutil.copy(first / "mlflow.db", place / "mlflow.db")
        for place in (first, *others):
            (place / "stand_ins").symlink_to(shared)  # which take long to draw

    def _run_first(self, cell: Cell) -> None:
        outcome, found = self._numbers(cell, FIRST, self._execute)
        if isinstance(found, str):
            self._audited[cell].compared[FIRST] = Compared(FIRST, note=found, failed=True)
            self._told(f"{self._audited[cell].name}  failed: {found}")
            return
        self._first[cell] = found
        self._audited[cell].device = tag_of(store_of(self._folder / FIRST.folder), outcome.run_id, "harness.device")

    def _compare(self, cell: Cell, circumstance: Circumstance, execute: Callable[[Cell], Outcome]) -> None:
        """Run a cell again, unless there is nothing to see in the circumstance."""
        audited = self._audited[cell]
        if cell not in self._first:
            return
        if circumstance is READ and audited.compared[WRITTEN].note:
            audited.compared[READ] = Compared(READ, note=audited.compared[WRITTEN].note)
            return
        outcome, found = self._numbers(cell, circumstance, execute)
        if isinstance(found, str):
            compared = Compared(circumstance, note=found, failed=True)
        else:
            compared = Compared(circumstance, differences(self._first[cell], found))
        if circumstance is WRITTEN and not compared.failed:
            store = store_of(self._folder / circumstance.folder)
            if tag_of(store, outcome.run_id, "harness.features") != "cached" and compared.exact:
                compared = Compared(circumstance, note="stores none")
        audited.compared[circumstance] = compared
        self._told(f"{audited.name}  {circumstance.name}: {said(compared)}")

    def _numbers(
        self, cell: Cell, circumstance: Circumstance, execute: Callable[[Cell], Outcome]
    ) -> tuple[Outcome, Numbers | str]:
        """Return what became of a cell, and its numbers or why there are none."""
        try:
            outcome = execute(self._complete(cell, circumstance))
            if outcome.status not in ("finished", "skipped"):
                return outcome, outcome.reason or outcome.status
            return outcome, numbers(self._folder / circumstance.folder, outcome.run_id)
        except HarnessError as error:
            return Outcome("failed"), one_line(error)

    def _complete(self, cell: Cell, circumstance: Circumstance) -> Cell:
        """Return a cell with everything that it needs to run in the audit's own folders.

        Raises:
            ConfigError: when it is not legal.
        """
        if cell.problem is not None:
            raise ConfigError(cell.problem)
        own = [*cell.overrides, *self._searchpath]
        place = self._folder / circumstance.folder
        fixed = [
            f"tracking.directory={place}",
            f"tracking.uri={store_of(place)}",
            f"features.directory={self._folder}/features",
            *circumstance.overrides,
        ]
        if root := compose(own).dataset.root:  # toy data lie where runs lie
            fixed.append(f"dataset.root='{Path(root).expanduser().absolute()}'")
        return Cell((*own, *fixed))


def said(compared: Compared) -> str:
    """Return in a few words how far a cell agrees with its first run."""
    if compared.failed:
        return f"failed: {compared.note}"
    if compared.note:
        return compared.note
    metric, gap = compared.largest
    return "exact" if gap == 0 else f"{gap:.1e} in {metric}"


def tell(line: str) -> None:
    """Print a line on what was done, for those who wait."""
    print(line, file=sys.stderr, flush=True)

"""Sweeps of the fault tests: started, hit, looked at, and typed again until nothing is left to do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chaos_store
import commands
from chaos_store import Row
from processes import descendants, outliving, processes

SMALL = ("preprocess.size=32", "metrics.heatmaps=0", f"method.epochs={chaos_store.EPOCHS}")
GRID = ("method=radl,padim,patchcore", "category=bolted_plate,granite_tile", "seed=0,1")
CELLS = 12
TWO = ("launcher=local", "launcher.jobs=2")
HERE = str(Path(__file__).parent)

Say = Callable[[], str]


def workers(pid: int) -> list[int]:
    """Return the worker processes of a sweep, not multiprocessing's tracker."""
    own = {child: line for child, (parent, line) in processes().items() if parent == pid}
    return sorted(child for child, line in own.items() if "resource_tracker" not in line)


class Command:
    """A command that runs, and what it says in the end."""

    def __init__(self, process: Any) -> None:
        self._process, self.pid = process, process.pid
        self._known: set[int] = set()

    def poll(self) -> int | None:
        return self._process.poll()

    def tree(self) -> set[int]:
        """Return the command's processes."""
        self._known |= descendants(self.pid) | {self.pid}
        return self._known & set(processes())

    def send(self, number: int) -> None:
        """Send a signal to the process group, as a terminal or a cluster does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill_all(self) -> int:
        """Kill every process at once, as when the power goes; return how many."""
        tree = self.tree()
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(tree)

    def end(self, timeout: float = 120) -> tuple[int, str, str]:
        """Wait for the command; return exit code, output and errors. What takes too long is killed, and an error."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            self.tree()
            time.sleep(0.1)
            if time.monotonic() > until:
                self.kill_all()
                output, errors = self._process.communicate(10)
                raise AssertionError(f"not over after {timeout} s:\n{output}{errors}")
        left = outliving(self.tree(), 10)
        assert not left, f"processes outlive the command: {[processes().get(pid) for pid in left]}"
        output, errors = self._process.communicate(10)
        assert "Traceback" not in output + errors, output + errors
        return self._process.returncode, output, errors


@dataclass
class Place:
    """A folder in which sweeps run, with its store.

    Args:
        folder: where commands are typed.
        toy_root: of the images.
        directory: of the store and its artifacts, seen from the folder.
    """

    folder: Path
    toy_root: Path
    directory: str = "runs"
    environment: dict[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()  # of every sweep here

    @property
    def database(self) -> Path:
        return self.folder / self.directory / "mlflow.db"

    def arguments(self, *own: str) -> list[str]:
        """Return the arguments of a sweep of the grid: with `own` in their place or besides."""
        own = (*self.settings, *own)
        given = {argument.partition("=")[0] for argument in own}
        usual = [argument for argument in (*TWO, *GRID, *SMALL) if argument.partition("=")[0] not in given]
        place = [f"tracking.directory={self.directory}"] if self.directory != "runs" else []
        options = [argument for argument in own if argument.startswith("--")]  # Hydra's parser wants them first
        settings = [argument for argument in own if argument not in options]
        return ["-m", *options, *usual, *place, f"dataset.root={self.toy_root}", *settings]

    def start(self, *own: str, fresh: bool = False, **options: Any) -> Command:
        """Start a sweep of the grid: forked, and with the options of chaos_child; or fresh, as it is typed."""
        return self.command("harness", *self.arguments(*own), fresh=fresh, **options)

    def command(self, module: str, *arguments: str, fresh: bool = False, **options: Any) -> Command:
        env = commands.environment(**self.environment)
        if fresh:
            process = commands.start_command(
                arguments, module, cwd=self.folder, env=env, fresh=True, start_new_session=True
            )
        else:
            env["PYTHONPATH"] = os.pathsep.join([HERE, *filter(None, [env.get("PYTHONPATH")])])
            wanted = [json.dumps(options), module, *arguments]
            process = commands.start_command(wanted, "chaos_child", cwd=self.folder, env=env, start_new_session=True)
        return Command(process)

    def rows(self) -> list[Row]:
        return chaos_store.rows(self.database)

    def finished(self) -> dict[str, Row]:
        return chaos_store.finished(self.rows())

    def phases(self, before: Container[str] = ()) -> list[str]:
        """Return what a sweep is doing, by what lies in the store.

        Args:
            before: what `traces` returned when it began: the runs and half files of the dead.
        """
        runs = self.folder / self.directory
        if not self.database.exists():
            made = [path for path in runs.glob(".creating-*") if path.name not in before]
            return ["creating the store" if made else "start-up"]
        written = [path for path in runs.glob("features/*/*/.writing-*") if path.name not in before]
        at_work = [row.phase for row in self.rows() if row.status == "RUNNING" and row.run_id not in before]
        return (["features"] if written else []) + at_work or ["start-up or between runs"]

    def traces(self) -> set[str]:
        """Return what would be taken for somebody at work: open runs and half files, by id or name."""
        runs = self.folder / self.directory
        half = {path.name for pattern in (".creating-*", "features/*/*/.writing-*") for path in runs.glob(pattern)}
        return half | {row.run_id for row in self.rows() if row.status == "RUNNING"}


@contextlib.contextmanager
def closing(command: Command) -> Iterator[Command]:
    """Leave no process of a command behind, whatever a test does."""
    try:
        yield command
    finally:
        command.kill_all()


def wait_for(condition: Callable[[], Any], seconds: float = 60, every: float = 0.02) -> Any:
    """Return what a condition returns as soon as it is true.

    Raises:
        AssertionError: when it takes too long.
    """
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"nothing after {seconds} s"
        time.sleep(every)
    return value


def counts(output: str) -> dict[str, int]:
    """Return what a sweep's last lines count: `12 runs: 3 computed now, 9 skipped (…)`."""
    line = re.search(r"(\d+) runs?: (.*)\.", output)
    assert line, output
    parts = re.findall(r"(\d+) (computed now|skipped|failed|not started|at work)", line[2])
    return {"runs": int(line[1])} | {name: int(number) for number, name in parts}


@dataclass
class Ledger:
    """What a test did and found; becomes a row of the report."""

    fault: str
    entry: dict[str, Any] = field(default_factory=dict)

    def set(self, **values: Any) -> None:
        """Keep counts, and print them."""
        if "said" in values:  # where the test ran is nobody's business
            values["said"] = re.sub(r"/[^\s']*/pytest-\d+/[^/\s']+/", "", values["said"])
        self.entry |= values
        print(f"[chaos] {self.fault}: {json.dumps(values)}", flush=True)

    def checked(self, before: Mapping[str, Row], place: Place, reference: Mapping[str, Row] | None = None,
                **how: Any) -> dict[str, Row]:  # fmt: skip
        """Look at a store after a fault: nothing lost, doubled or half; return the runs that count.

        Counts add up over the calls of a test.
        """
        rows = place.rows()
        now = chaos_store.finished(rows)
        lost = [row.name for key, row in before.items() if key not in now or now[key].run_id != row.run_id]
        wrong = chaos_store.damaged(rows, **how)
        wrong += chaos_store.differences(now, reference) if reference is not None else []
        found = Counter(lost=len(lost), doubled=chaos_store.doubled(rows), damaged=len(wrong))
        for name, number in found.items():
            self.entry[name] = self.entry.get(name, 0) + number
        assert not any(found.values()), (lost, found, wrong)
        return now

    def completes(self, place: Place, start: Callable[[], Command], cells: int = CELLS,
                  reference: Mapping[str, Row] | None = None, timeout: float = 180, **how: Any) -> None:  # fmt: skip
        """Type the command again: it completes the grid; and once more: there is nothing to do."""
        before = place.finished()
        with closing(start()) as command:
            code, output, errors = command.end(timeout)
        assert code == 0, output + errors
        now = self.checked(before, place, reference, **how)
        assert len(now) == cells, (len(now), output + errors)
        left_open = [row.name for row in place.rows() if row.status == "RUNNING" and row.key in now]
        assert not left_open, f"nobody works on them, but they are open: {left_open}"
        with closing(start()) as command:
            code, output, errors = command.end(timeout)
        assert (code, counts(output)) == (0, {"runs": cells, "skipped": cells}), output + errors
        assert self.checked(now, place, reference, **how).keys() == now.keys()
        self.set(before=len(before), after=len(now), cells=cells, completed=True)


def sentences(errors: str) -> Sequence[str]:
    """Return the lines of standard error that are not of the progress."""
    return [line for line in errors.splitlines() if not re.match(r"\s*\d+/\d+  ", line)]

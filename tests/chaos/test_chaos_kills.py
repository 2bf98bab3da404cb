"""SIGKILL at random moments of a parallel sweep, and several sweeps of one grid at once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from chaos_store import Row
from chaos_tools import CELLS, Command, Ledger, Place, closing, counts, wait_for, workers
from processes import outliving

pytestmark = pytest.mark.chaos

SEED = 7
MOMENTS = 50
SIGN_SECONDS = 15.0
SIGNS = ("creating the store", "features", "training", "before the artifacts", "artifacts", "finish")


class Killer:
    """Chooses moments and victims, by chance that can be had again."""

    def __init__(self, seed: int, longest: float) -> None:
        self._random, self._longest = random.Random(seed), longest

    def wait(self, place: Place, command: Command, before: set[str]) -> None:
        """Wait for a moment: any one, or one in which something short can be seen to happen."""
        if self._random.random() < 0.5:
            until = time.monotonic() + self._random.uniform(0, self._longest)
            while time.monotonic() < until and command.poll() is None:
                time.sleep(0.01)
            return
        sign = self._random.choice(SIGNS)
        until = time.monotonic() + SIGN_SECONDS
        while sign not in place.phases(before) and time.monotonic() < until and command.poll() is None:
            time.sleep(0.001)
        time.sleep(self._random.uniform(0, 0.02))

    def strike(self, command: Command) -> tuple[str, int, bool]:
        """Kill; return what, how many processes, and whether the sweep itself is dead."""
        what = self._random.choice(["everything", "the sweep", "a worker", "all workers"])
        found = workers(command.pid)
        if what == "everything" or not found:
            return "everything", command.kill_all(), True
        if what == "the sweep":
            command.tree()
            command.send(signal.SIGKILL)
            return what, 1, True
        victims = found if what == "all workers" else [self._random.choice(found)]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        return what, len(victims), False


def test_kills(tmp_path: Path, toy_root: Path, ledger: Ledger, reference: dict[str, Row]) -> None:
    """SIGKILL at 50 random moments of a parallel sweep, on stores of their own."""
    begun, ended = min(row.start for row in reference.values()), max(row.end or 0 for row in reference.values())
    killer = Killer(SEED, (ended - begun) / 1000)
    phases: Counter[str] = Counter()
    kills: Counter[str] = Counter()
    stores = before = moments = processes = 0
    while moments < MOMENTS:
        place = Place(tmp_path / f"store{stores}", toy_root)
        place.folder.mkdir()
        stores += 1
        found: dict[str, Row] = {}
        traces: set[str] = set()
        command = place.start()
        while moments < MOMENTS and len(found) < CELLS:
            killer.wait(place, command, traces)
            if command.poll() is not None:
                traces, command = place.traces(), place.start()
                continue
            phases.update(place.phases(traces))
            what, number, dead = killer.strike(command)
            if dead:
                command.poll()
                assert not outliving(command.tree(), 15), "worker processes outlive their sweep"
            moments, processes = moments + 1, processes + number
            kills[what] += 1
            found = ledger.checked(found, place, reference)
            if dead:
                traces, command = place.traces(), place.start()
        before += len(found)
        with closing(command):
            command.end(300)
        ledger.completes(place, place.start, reference=reference)
    ledger.set(
        seed=SEED, moments=moments, kills=processes, stores=stores, cells=CELLS * stores, before=before,
        after=CELLS * stores, victims=dict(kills), phases=dict(phases.most_common()),
    )  # fmt: skip


def test_kills_of_what_is_typed(place: Place, ledger: Ledger, reference: dict[str, Row]) -> None:
    """SIGKILL at random moments of a sweep started as it is typed, with spawned workers."""
    moments, processes = random.Random(SEED), 0
    found: dict[str, Row] = {}
    for longest in (5, 20, 40):  # of which the first 20 s are imports
        with closing(place.start(fresh=True)) as command:
            until = time.monotonic() + moments.uniform(0, longest)
            while command.poll() is None and time.monotonic() < until:
                command.tree()
                time.sleep(0.05)
            processes += command.kill_all()
            assert not outliving(command.tree(), 15), "worker processes outlive their sweep"
        found = ledger.checked(found, place, reference)
    with closing(place.start(fresh=True)) as command:
        code, output, errors = command.end(300)
    assert code == 0, output + errors
    ledger.checked(found, place, reference)
    ledger.completes(place, place.start, reference=reference)
    ledger.set(seed=SEED, moments=3, kills=processes)


def said(ends: list[tuple[int, str, str]]) -> str:
    return "\n".join(f"exit code {code}\n{output}{errors}" for code, output, errors in ends)


@pytest.mark.parametrize("number", [2, 3])
def test_sweeps_at_once(number: int, place: Place, ledger: Ledger, reference: dict[str, Row]) -> None:
    """Sweeps of one grid at once, begun on no store, share the work."""
    sweeps = [place.start() for _ in range(number)]
    try:
        ends = [command.end(300) for command in sweeps]
    finally:
        for command in sweeps:
            command.kill_all()
    assert [code for code, _, _ in ends] == [0] * number, said(ends)
    worked = [counts(output).get("computed now", 0) for _, output, _ in ends]
    assert sum(worked) == CELLS, worked
    assert {row.status for row in place.rows()} == {"FINISHED"}
    ledger.checked({}, place, reference)
    ledger.completes(place, place.start, reference=reference)
    ledger.set(shares=worked)


def test_a_killed_sweep_beside_two(place: Place, ledger: Ledger, reference: dict[str, Row]) -> None:
    """Three sweeps of one grid at once, of which one is killed: the others take over its runs."""
    sweeps = [place.start() for _ in range(3)]
    try:
        wait_for(lambda: len(place.finished()) >= 2, 120)
        victim = sweeps[0]
        killed = victim.kill_all()
        found = ledger.checked({}, place, reference)
        ends = [command.end(300) for command in sweeps[1:]]
    finally:
        for command in sweeps:
            command.kill_all()
    assert [code for code, _, _ in ends] == [0, 0], said(ends)
    ledger.checked(found, place, reference)
    ledger.completes(place, place.start, reference=reference)
    ledger.set(kills=killed, moments=1, before=len(found))

"""What ends a sweep from outside, kindly: a cluster's SIGTERM, a terminal that closes, a pipe that nobody reads."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import commands
import pytest
from chaos_store import Row
from chaos_tools import Command, Ledger, Place, closing, counts, wait_for, workers
from processes import processes

pytestmark = pytest.mark.chaos

GRID = ("method=radl", "seed=0,1,2")
CELLS = 6
LONG = ("method.epochs=500", "trainer=default")


def in_training(place: Place, number: int) -> bool:
    return sum(bool(row.history) for row in place.rows() if row.status == "RUNNING") >= number


def ended(command: Command, code: int, ledger: Ledger, place: Place) -> tuple[str, str]:
    """Check that a sweep ended as Ctrl-C would end it, and every run that was at work says so."""
    found, output, errors = command.end(60)
    assert found == code, (found, output + errors)
    assert "Interrupted" in output + errors
    rows = place.rows()
    assert not [row.name for row in rows if row.status == "RUNNING"], output + errors
    interrupted = [row for row in rows if row.tags.get("harness.failure") == "interrupted"]
    assert interrupted
    ledger.set(interrupted=len(interrupted), exit_code=code)
    return output, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal(number: int, place: Place, ledger: Ledger, reference: dict[str, Row]) -> None:
    """A sweep is told to stop: its runs say so, its processes end, and it goes on later"""
    place.settings = GRID
    with closing(place.start(*LONG)) as command:
        wait_for(lambda: in_training(place, 2) or command.poll() is not None, 120)
        command.tree()
        command.send(number)
        output, _ = ended(command, 128 + number, ledger, place)
    assert counts(output)["runs"] == CELLS
    assert "computed now" not in output
    ledger.set(moments=1, before=0)
    if number == signal.SIGTERM:
        ledger.checked({}, place, reference)
        ledger.completes(place, place.start, CELLS)


def test_a_signal_to_all(place: Place, ledger: Ledger) -> None:
    """A cluster tells every process of a job to stop (`scancel`, systemd): as if it told the sweep alone"""
    place.settings = GRID
    with closing(place.start(*LONG)) as command:
        wait_for(lambda: in_training(place, 2) or command.poll() is not None, 120)
        for pid in sorted(command.tree(), reverse=True):  # the workers first
            if "resource_tracker" not in processes()[pid][1]:
                os.kill(pid, signal.SIGTERM)
        ended(command, 128 + signal.SIGTERM, ledger, place)
    ledger.set(moments=1, before=0)


def test_a_signal_to_a_worker(place: Place, ledger: Ledger, reference: dict[str, Row]) -> None:
    """One worker is told to stop: its run is done by another"""
    place.settings = ("method=radl,padim,patchcore", "seed=0,1", "category=bolted_plate")
    with closing(place.start()) as command:
        wait_for(lambda: in_training(place, 1) or command.poll() is not None, 120, every=0.005)
        os.kill(workers(command.pid)[0], signal.SIGTERM)
        code, output, errors = command.end()
    assert code == 0, output + errors
    assert "lost the worker process" in errors
    found = ledger.checked({}, place, reference)
    ledger.set(moments=1, kills=1, before=len(found))
    ledger.completes(place, place.start, CELLS, reference)


def test_a_signal_to_a_single_run(place: Place, ledger: Ledger) -> None:
    """A single run, and a sweep in one process, are told to stop"""
    single = ["preprocess.size=32", "metrics.heatmaps=0", *LONG, f"dataset.root={place.toy_root}"]
    for number, arguments in ((signal.SIGTERM, single), (signal.SIGHUP, ["-m", "seed=1,2", *single])):
        before = len(place.rows())
        with closing(place.command("harness", *arguments)) as command:

            def begun(before: int = before, command: Command = command) -> bool:
                return (len(place.rows()) > before and in_training(place, 1)) or command.poll() is not None

            wait_for(begun, 120)
            command.send(number)
            ended(command, 128 + number, ledger, place)
    ledger.set(moments=2, before=0)


def test_a_signal_that_is_ignored(place: Place, ledger: Ledger) -> None:
    """`nohup`: a terminal that closes ends nothing"""
    place.settings = ("method=padim", "seed=0", "category=bolted_plate,granite_tile")
    with closing(place.start(ignored=[signal.SIGHUP])) as command:
        wait_for(lambda: any(row.status == "RUNNING" for row in place.rows()) or command.poll() is not None, 120)
        command.send(signal.SIGHUP)
        code, output, errors = command.end()
    assert code == 0, output + errors
    ledger.set(moments=1, before=len(ledger.checked({}, place)))
    ledger.completes(place, place.start, 2)


@pytest.mark.parametrize("unread", [[1], [2], [1, 2]], ids=["stdout", "stderr", "both"])
def test_nobody_reads(unread: list[int], place: Place, ledger: Ledger, reference: dict[str, Row]) -> None:
    """Nobody reads what a sweep prints: its runs are done all the same"""
    place.settings = ("method=radl,padim", "seed=0", "category=bolted_plate")
    with closing(place.start(unread=unread)) as command:
        code, output, errors = command.end()
    assert code == 0, output + errors
    found = ledger.checked({}, place, reference)
    assert len(found) == 2
    ledger.set(moments=1, before=len(found))
    ledger.completes(place, place.start, 2, reference)


def test_head(tmp_path: Path, toy_root: Path, ledger: Ledger, reference: dict[str, Row]) -> None:
    """`python -m harness -m … 2>&1 | head -1`, as it is typed"""
    place = Place(tmp_path, toy_root, settings=("launcher.jobs=1", "method=padim", "seed=0", "category=bolted_plate"))
    typed = " ".join(f"'{word}'" for word in commands.command(place.arguments()))
    done = subprocess.run(
        ["bash", "-c", f"{typed} 2>&1 | head -1; echo ${{PIPESTATUS[0]}}"],
        cwd=tmp_path, text=True, env=commands.environment(), capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0", done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    found = ledger.checked({}, place, reference)
    assert len(found) == 1
    ledger.set(moments=1, before=1)

"""Disks that fill up and folders that may not be written."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos_store import Row
from chaos_tools import Command, Ledger, Place, closing, sentences, wait_for

pytestmark = pytest.mark.chaos

MIB = 2**20
ROOMY = 4 * 2**30
SMALLER = ("method=radl,padim", "seed=0,1", "category=bolted_plate")
SMALLER_RUNS = {f"{method}/bolted_plate/{seed}" for method in ("radl", "padim") for seed in (0, 1)}
FOUR = len(SMALLER_RUNS)


def used(folder: Path) -> int:
    """Return the bytes in use on the file system of a folder."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def occupied(folder: Path) -> int:
    """Return the bytes that the files of a folder take in memory, in whole pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(-(-path.stat().st_size // page) * page for path in folder.rglob("*") if path.is_file())


def fill(mount: Callable[..., None], folder: Path) -> None:
    """Leave no room on a file system in memory, from one moment to the next."""
    for _ in range(50):
        try:
            mount(folder, size=used(folder))
        except subprocess.CalledProcessError:  # something was written in between
            time.sleep(0.001)
        else:
            return
    raise AssertionError("it could not be made small")


def end_full(command: Command) -> str:
    """Wait for a sweep that has no room; return its reason, which is one sentence with the remedy."""
    code, output, errors = command.end()
    assert code == 1, output + errors
    reasons = {line.partition("failed: ")[2] for line in errors.splitlines() if "failed: " in line}
    reasons |= set() if reasons else set(sentences(errors))
    for reason in reasons:
        assert any(text in reason.lower() for text in ("disk is full", "disk full", "no space left", "disk space")), (
            output + errors
        )
        assert len(reason) < 600, reason
    assert reasons, output + errors
    return min(reasons, key=len)


def test_no_room_for_features(
    place: Place, mount: Callable[..., None], ledger: Ledger, reference: dict[str, Row]
) -> None:
    """The disk fills up while features are written: runs compute them, with the same numbers"""
    features = place.folder / "features"
    features.mkdir()
    mount(features, size=ROOMY, options="nr_inodes=60")  # free bytes, of which a gibibyte is never taken, but no files
    own = (*SMALLER, f"features.directory={features}")
    with closing(place.start(*own)) as command:
        code, output, errors = command.end()
    assert code == 0, output + errors
    assert "features are computed in every epoch" in errors, errors
    assert list(features.glob("*/*/*.npy"))
    assert not list(features.glob("*/*/.writing-*"))
    found = ledger.checked({}, place, reference)
    assert {row.tags["harness.features"] for row in found.values()} >= {"computed"}
    said = next(line for line in errors.splitlines() if "features are computed" in line)
    ledger.set(moments=1, before=len(found), said=said)
    mount(features, size=ROOMY, options="nr_inodes=100000")
    ledger.completes(place, lambda: place.start(*own), FOUR, reference)
    more = (*own, "seed=2")
    with closing(place.start(*more)) as command:
        assert command.end()[0] == 0
    assert {row.tags["harness.features"] for row in place.rows() if row.name.endswith("/2")} == {"cached"}


def test_no_room_for_artifacts(
    place: Place, mount: Callable[..., None], ledger: Ledger, reference: dict[str, Row]
) -> None:
    """The disk fills up while artifacts are written: a sentence, and half of them count for nothing"""
    artifacts = place.folder / "runs" / "artifacts"
    artifacts.mkdir(parents=True)
    sizes = [occupied(row.folder) for row in reference.values() if row.name in SMALLER_RUNS]
    assert len(sizes) == FOUR
    mount(artifacts, size=sum(sizes) - max(sizes) // 2)  # enough for two or three runs
    with closing(place.start(*SMALLER)) as command:
        said = end_full(command)
    found = ledger.checked({}, place, reference)
    assert 0 < len(found) < FOUR
    failed = [row for row in place.rows() if row.status == "FAILED"]
    assert len(failed) == FOUR - len(found)
    assert all(row.tags["harness.failure"] for row in failed)
    ledger.set(moments=1, before=len(found), said=said)
    mount(artifacts, size=64 * MIB)
    ledger.completes(place, lambda: place.start(*SMALLER), FOUR, reference)


def test_no_room_for_temporary_files(
    place: Place, mount: Callable[..., None], ledger: Ledger, reference: dict[str, Row]
) -> None:
    """No room in the folder for temporary files: a sentence"""
    temporary = place.folder / "tmp"
    temporary.mkdir()
    mount(temporary, size=16 * 1024)
    with closing(place.start(*SMALLER, temporary=str(temporary))) as command:
        said = end_full(command)
    found = ledger.checked({}, place, reference)
    assert not found
    assert not list(temporary.rglob("*.parquet"))
    ledger.set(moments=1, before=0, said=said)
    mount(temporary, size=64 * MIB)
    ledger.completes(place, lambda: place.start(*SMALLER, temporary=str(temporary)), FOUR, reference)


@pytest.mark.parametrize("room", [128 * 1024, None], ids=["as it is made", "later"])
def test_no_room_for_the_database(
    room: int | None, place: Place, mount: Callable[..., None], ledger: Ledger, reference: dict[str, Row]
) -> None:
    """The disk fills up while the database is written: a sentence, and a sound database"""
    runs = place.folder / "runs"
    runs.mkdir()
    mount(runs, size=room or 64 * MIB)
    own = (*SMALLER, f"features.directory={place.folder}/features")
    with closing(place.start(*own)) as command:
        if room is None:
            wait_for(lambda: len(place.finished()) >= 1, 90, every=0.001)
            fill(mount, runs)
        said = end_full(command)
    found = ledger.checked({}, place, reference)
    ledger.set(moments=1, before=len(found), said=said)
    mount(runs, size=64 * MIB)
    ledger.completes(place, lambda: place.start(*own), FOUR, reference)


@contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    """Take the right to write away from a folder and all that is in it."""
    modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def refused(command: Command, culprit: str) -> str:
    """Return what a sweep says that may not write: a sentence with the culprit."""
    code, output, errors = command.end()
    assert code == 1, output + errors
    assert not any(name in output for name in ("computed now", "skipped")), output
    told = [line for line in errors.splitlines() if culprit in line]
    assert told, errors
    assert any(word in told[0] for word in ("ermission", "ead-only", "readonly", "writable")), told
    return told[0].rpartition("failed: ")[2]


def test_a_folder_where_nothing_may_be_made(place: Place, ledger: Ledger) -> None:
    """No permission to make `runs/`: a sentence"""
    with forbidden(place.folder), closing(place.start(*SMALLER, obedient=True)) as command:
        said = refused(command, "runs")
    ledger.set(said=said, before=0)
    ledger.completes(place, lambda: place.start(*SMALLER), FOUR)


def test_a_store_that_may_only_be_read(
    place: Place, mount: Callable[..., None], ledger: Ledger, reference: dict[str, Row]
) -> None:
    """`runs/` without permission to write, then on a read-only file system: a sentence; reports read it"""
    runs = place.folder / "runs"
    runs.mkdir()
    mount(runs, size=64 * MIB)
    half = ("method=radl", "seed=0,1", "category=bolted_plate")
    own = f"features.directory={place.folder}/features"
    with closing(place.start(*half, own)) as command:
        assert command.end()[0] == 0
    found = ledger.checked({}, place, reference)
    with forbidden(runs), closing(place.start(*SMALLER, own, obedient=True)) as command:
        ledger.set(said=refused(command, "runs"))
    mount(runs, size=64 * MIB, options="ro")
    with closing(place.start(*SMALLER, own)) as command:
        refused(command, "runs")
    with closing(place.command("harness.report")) as command:
        code, output, errors = command.end()
    assert code == 0, output + errors
    assert "radl" in (place.folder / "reports" / "all" / "report.md").read_text()
    mount(runs, size=64 * MIB)
    assert ledger.checked(found, place, reference).keys() == found.keys()
    ledger.set(before=len(found))
    ledger.completes(place, lambda: place.start(*SMALLER, own), FOUR, reference)

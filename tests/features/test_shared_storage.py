"""The store on storage that hosts share: no locks that work, clocks that differ, names that say nothing, no rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from store_hosts import CONTEXT, Host, assert_all_whole

from harness.features import files
from harness.features.store import DiskShelf

HOURS = 3600.0


@pytest.mark.parametrize("locks", ["work", "ENOLCK", "ENOSYS", "exclude nobody"])
def test_hosts_write_evict_and_die_and_nobody_reads_anything_wrong(locks: str, tmp_path: Path) -> None:
    """One of them is killed while it writes."""
    clocks = {"a": 0.0, "b": 5 * HOURS, "c": -3 * HOURS}
    hosts = [Host(tmp_path, name, locks, clock, reads=60) for name, clock in clocks.items()]
    for host in hosts:
        host.wait()
    for host in hosts:
        host.go()
    time.sleep(0.2)
    hosts[-1].kill()
    assert all(host.result().read >= 60 for host in hosts[:-1])
    assert_all_whole(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STANDSTILL_SECONDS", 2.0)
    monkeypatch.setattr(files, "_LOOK_SECONDS", 0.05)


def lock_of(own: DiskShelf, folder: Path) -> Path:
    with own.writing(["x"]):
        pass
    (lock,) = folder.glob("*/writer-*.lock")
    return lock


def test_a_lock_that_its_dead_host_left_behind_is_not_waited_for(tmp_path: Path, impatient: None) -> None:
    own = DiskShelf(tmp_path, CONTEXT, 10**9)
    with FileLock(lock_of(own, tmp_path)), own.writing(["x"]):
        own.write("x", {"l1": np.ones((1, 2, 2), np.float32)})
    assert own.read("x", ["l1"]) is not None


def test_a_writer_that_gets_on_is_waited_for(tmp_path: Path, impatient: None) -> None:
    own, other = (DiskShelf(tmp_path, CONTEXT, 10**9) for _ in range(2))
    entered, done = threading.Event(), []

    def write_slowly() -> None:
        with other.writing(["x"]):
            entered.set()
            for image in range(35):
                other.write(str(image), {"l1": np.ones((1, 2, 2), np.float32)})
                time.sleep(0.1)
            done.append(True)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    entered.wait()
    with own.writing(["x"]):
        assert done
    writer.join()


def test_two_writers_of_one_name_and_number_do_not_share_a_half_file(tmp_path: Path) -> None:
    """Containers: one host name, and each its process 1."""
    path = tmp_path / "map"
    with files.whole(path) as first:
        first.write_text("first")
        with files.whole(path) as second:
            second.write_text("second")
            assert first.read_text() == "first"
        assert path.read_text() == "second"
    assert path.read_text() == "first"


@pytest.mark.parametrize(("age", "stays"), [(0, True), (10 * HOURS, True), (-10 * HOURS, True), (50 * HOURS, False)])
def test_half_files_of_other_hosts_are_swept_when_no_clock_can_be_that_wrong(
    age: float, stays: bool, tmp_path: Path
) -> None:
    own = DiskShelf(tmp_path, CONTEXT, 10**9)
    half = tmp_path / CONTEXT.name / "l1" / f"{files.ASIDE}0123abcd_1-5f-image.npy"
    half.parent.mkdir()
    half.write_bytes(b"half")
    os.utime(half, (time.time() - age, time.time() - age))
    with own.writing(["x"]):
        assert half.exists() == stays


def test_a_half_file_that_another_host_sweeps_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, swept = DiskShelf(tmp_path, CONTEXT, 10**9), []
    save = np.save

    def save_and_sweep(file: object, values: np.ndarray, **more: bool) -> None:
        save(file, values, **more)
        if not swept:
            swept.extend(tmp_path.glob(f"*/*/{files.ASIDE}*"))
            swept[0].unlink()

    monkeypatch.setattr(np, "save", save_and_sweep)
    own.write("a", {"l1": np.ones((1, 2, 2), np.float32)})
    assert swept and own.read("a", ["l1"]) is not None


READER = """
import sys
from pathlib import Path
import numpy as np
from harness.features.store import Context, DiskShelf
folder = Path(sys.argv[1])
shelf = DiskShelf(folder, Context("resnet18:random-0", "size: 64", "float32", "cpu", "2.0"), 10**9)
assert (np.asarray(shelf.read("a", ["l1"])["l1"]) == 3).all()
assert shelf.cost("cpu", ["l1"]) == 0.5
with shelf.writing(["a"]):
    shelf.make_room(10**8, ["a"])
    write = lambda: shelf.write("b", {"l1": np.ones((1, 2, 2), np.float32)})
    for action in (write, lambda: shelf.set_cost("cpu", ["l1"], 1)):
        try:
            action()
        except OSError:
            continue
        raise AssertionError("it could be written")
"""


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    own = DiskShelf(tmp_path, CONTEXT, 10**9)
    own.write("a", {"l1": np.full((2, 3, 3), 3, np.float32)})
    own.set_cost("cpu", ["l1"], 0.5)
    (tmp_path / CONTEXT.name / "context.json").unlink()  # that it cannot be written must not matter
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield tmp_path
    for folder in folders:
        folder.chmod(0o755)


def test_a_store_that_may_only_be_read_serves(read_only: Path) -> None:
    """Root may write everywhere: it gives up its capabilities."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root cannot give up its rights here (setpriv)")
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*powerless, sys.executable, "-c", READER, str(read_only)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr

"""The feature store on storage that two hosts mount, as over NFS: caches of their own, no locks, files that go stale.

The mounts are real ones (see `stateless_mount.py`), the host names too.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from commands import command, environment
from mlflow import MlflowClient
from store_hosts import CONTEXT, Host, assert_all_whole

from benchmarks.tracking_load import elsewhere
from harness.features.store import DiskShelf

pytestmark = pytest.mark.scale

HOURS = 3600.0
MOUNT = Path(__file__).with_name("stateless_mount.py")


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[list[Path]]:
    """One folder, mounted twice."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("mounting needs root and /dev/fuse")
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError):
        pytest.skip("mounting needs the package mfusepy, and libfuse: apt install libfuse2")
    folder = tmp_path / "storage"
    folder.mkdir()
    with ExitStack() as stack:
        points = [tmp_path / name for name in ("mount_a", "mount_b")]
        for point in points:
            point.mkdir()
            server = subprocess.Popen([sys.executable, "-W", "ignore", str(MOUNT), str(folder), str(point)])
            stack.callback(server.wait, 30)
            stack.callback(subprocess.run, ["umount", "--lazy", str(point)], check=False)
            until = time.monotonic() + 60
            while not point.is_mount():
                assert server.poll() is None and time.monotonic() < until, "the folder cannot be mounted"
                time.sleep(0.05)
        yield points


def test_hosts_write_evict_and_die_and_nobody_reads_anything_wrong(mounts: list[Path], tmp_path: Path) -> None:
    given = {"a": (0, 0.0), "b": (1, 5 * HOURS), "c": (0, -3 * HOURS), "d": (1, 0.0)}
    hosts = [Host(mounts[mount], name, "work", clock, reads=300) for name, (mount, clock) in given.items()]
    for host in hosts:
        host.wait()
    for host in hosts:
        host.go()
    time.sleep(5)
    hosts[-1].kill()
    results = [host.result() for host in hosts[:-1]]
    assert sum(result.evicted for result in results) > 0, results
    assert_all_whole(tmp_path / "storage")


SMALL = ["preprocess.size=64", "metrics.heatmaps=0", "trainer.max_epochs=12", "method.hidden=32"]


def start(folder: Path, host: str, toy_root: Path, *overrides: str) -> subprocess.Popen[bytes]:
    """Start a run on a host of that name, with a store of results of its own."""
    (folder / host / "tmp").mkdir(parents=True, exist_ok=True)
    given = [*SMALL, *overrides, f"dataset.root={toy_root}", "features.resident_gib=0"]
    named = [*elsewhere(), "sh", "-c", 'hostname "$0" && exec "$@"', host, *command(given)]
    with (folder / f"{host}.log").open("ab") as log:
        return subprocess.Popen(
            named, cwd=folder / host, env=environment() | {"TMPDIR": str(folder / host / "tmp")}, stdout=log, stderr=log
        )


def numbers(folder: Path, host: str) -> dict[str, dict[str, float]]:
    """Return the metrics of every finished run that a host has, but times."""
    client = MlflowClient(f"sqlite:///{folder / host}/runs/mlflow.db")
    found = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()], "tags.`harness.finished` = 'true'"
    )
    return {
        run.data.tags["harness.run_key"]: {
            name: value
            for name, value in run.data.metrics.items()
            if not name.startswith(("time/", "speed/", "memory/"))
        }
        for run in found
    }


def test_runs_of_two_hosts_have_the_numbers_of_runs_that_compute(
    mounts: list[Path], hosts: None, tmp_path: Path, toy_root: Path
) -> None:
    """One is killed while it fills the store; then both run at once, and a third needs the room in the middle of it."""
    alone = start(tmp_path, "alone", toy_root, "features.store=off")
    store = [f"features.directory={mount}/features" for mount in mounts]
    killed = start(tmp_path, "a", toy_root, store[0])
    until = time.monotonic() + 120
    while not list((tmp_path / "storage").glob("features/*/*/*.npy")):
        assert killed.poll() is None and time.monotonic() < until, (tmp_path / "a.log").read_text()
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert alone.wait(300) == 0, (tmp_path / "alone.log").read_text()
    both = [start(tmp_path, host, toy_root, store[i]) for i, host in enumerate("ab")]
    evictor = DiskShelf(mounts[0] / "features", CONTEXT, 1000)
    while any(process.poll() is None for process in both):
        if epochs(tmp_path, "b") > 1:
            assert evictor.make_room(1000, [])
        time.sleep(0.1)
    assert [process.returncode for process in both] == [0, 0], (tmp_path / "b.log").read_text()
    assert "are computed again" in (tmp_path / "b.log").read_text()
    assert numbers(tmp_path, "a") == numbers(tmp_path, "b") == numbers(tmp_path, "alone")


def epochs(folder: Path, host: str) -> int:
    """Return how many epochs a host's run has written down, by its database itself."""
    database = folder / host / "runs" / "mlflow.db"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database)) as connection:
        last = "SELECT max(step) FROM metrics JOIN runs USING (run_uuid) WHERE status = 'RUNNING'"
        return int(connection.execute(last).fetchone()[0] or 0)

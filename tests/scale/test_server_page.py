"""The page on tracking servers, followed from top to bottom: its commands as typed, on a cluster of the test's own.

What differs: ports (`PGPORT`, and the server's), the password, `sudo` (which becomes the cluster's superuser, or does
nothing), and the size of the images.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from commands import environment

from benchmarks.servers import USER, Postgres, find_postgres, free_port, postgres

pytestmark = pytest.mark.scale

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tracking-server.md"
PASSWORD = "a password's, with: signs@"
SEEDS = 8
SUDO = """#!/bin/sh
[ "$1" = -u ] || exit 0
shift 2
PGUSER={user} PGPASSWORD={password} exec "$@"
"""


def commands_of(page: str) -> list[str]:
    blocks = re.findall(r"^```shell\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [line for line in lines if line]


class Reader:
    """Types commands in one folder, and keeps what they export and the server that they start."""

    def __init__(self, folder: Path, cluster: Postgres, toy_root: Path) -> None:
        self.folder, self._toy_root, self._port = folder, toy_root, free_port()
        tools = folder / "tools"
        tools.mkdir()
        (tools / "sudo").write_text(SUDO.format(user=USER, password=cluster.password))
        (tools / "sudo").chmod(0o755)
        programs = find_postgres()
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), str(programs), os.environ["PATH"]])
        self.environment = environment() | {"PATH": path, "PGHOST": "127.0.0.1", "PGPORT": str(cluster.port)}
        self.server: subprocess.Popen[bytes] | None = None

    def type(self, command: str) -> None:
        command = command.replace(":5000", f":{self._port}").replace("--port 5000", f"--port {self._port}")
        if exported := re.match(r"export (\w+)=(.*)", command):
            name, (value,) = exported[1], shlex.split(exported[2])
            self.environment[name] = PASSWORD if name == "PGPASSWORD" else value
        elif command.startswith("mlflow server "):
            self._serve(command)
        elif not command.startswith("pip "):
            self._run(command)

    def _run(self, command: str) -> None:
        if command.startswith("python -m harness -m"):
            command += f" preprocess.size=32 metrics.heatmaps=0 dataset.root={self._toy_root}"
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, input=f"{PASSWORD}\n{PASSWORD}\n",
            capture_output=True, text=True, timeout=900, start_new_session=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def _serve(self, command: str) -> None:
        log = self.folder / "server.log"
        with log.open("wb") as output:
            self.server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 180
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=5):
                return
            assert self.server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)

    def leave(self) -> None:
        if self.server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.server.pid, signal.SIGTERM)
            try:
                self.server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.server.pid, signal.SIGKILL)
                self.server.wait()


@pytest.fixture
def cluster_of_its_own(postgresql: None) -> Iterator[Postgres]:
    with postgres() as cluster:
        yield cluster


def test_the_page_can_be_followed(cluster_of_its_own: Postgres, tmp_path: Path, toy_root: Path) -> None:
    import psycopg

    reader = Reader(tmp_path, cluster_of_its_own, toy_root)
    try:
        for command in commands_of(PAGE.read_text(encoding="utf-8")):
            reader.type(command)
    finally:
        reader.leave()
    assert (tmp_path / "reports" / "all" / "index.html").is_file()
    finished = "SELECT count(*) FROM runs WHERE status = 'FINISHED'"
    with psycopg.connect(cluster_of_its_own.dsn, dbname="mlflow_restored") as connection:
        assert connection.execute(finished).fetchone() == (SEEDS,)
    with tarfile.open(tmp_path / "artifacts.tar.gz") as archive:
        assert sum(name.endswith("/scores.parquet") for name in archive.getnames()) == SEEDS
    log = (tmp_path / "server.log").read_text() + cluster_of_its_own.log.read_text()
    assert PASSWORD not in log

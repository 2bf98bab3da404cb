"""An MLflow server that is killed, started again, stopped for a while, or never there."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import chaos_store
import commands
import pytest
from chaos_store import Row
from chaos_tools import Ledger, Place, closing, counts, sentences, wait_for
from processes import outliving

pytestmark = pytest.mark.chaos

LONG = 24  # epochs
HUNG_SECONDS = 8.0
WITH_PATIENCE = "tracking.patience=300"


class Server:
    """A real `mlflow server` on the loopback address, with SQLite and artifacts behind it."""

    def __init__(self, folder: Path) -> None:
        self.database, self.artifacts = folder / "mlflow.db", folder / "artifacts"
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers; one that runs goes on."""
        if self._process is None:
            arguments = ["server", "--host=127.0.0.1", f"--port={self._port}", "--workers=1"]
            arguments += [f"--backend-store-uri=sqlite:///{self.database}"]
            arguments += [f"--artifacts-destination={self.artifacts}", "--serve-artifacts"]
            with (self._folder / "server.log").open("a") as log:
                self._process = subprocess.Popen(
                    commands.command(arguments, "mlflow"), cwd=self._folder, env=commands.environment(),
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
        wait_for(self._answers, 180, every=0.2)

    def kill(self) -> int:
        """Kill all processes of the server at once; return how many."""
        if self._process is None:
            return 0
        found = self.processes()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        assert not outliving(found, 10)
        return len(found)

    def send(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def processes(self) -> set[int]:
        assert self._process is not None
        return {int(p.name) for p in Path("/proc").glob("[0-9]*") if _group(p) == self._process.pid}

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False


def _group(process: Path) -> int:
    with contextlib.suppress(OSError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])
    return 0


@dataclass
class Served(Place):
    """A folder in which sweeps run on a server; it sees the runs of its own seeds."""

    server: Server | None = None
    seeds: tuple[str, ...] = ()

    @property
    def database(self) -> Path:
        assert self.server is not None
        return self.server.database

    def rows(self) -> list[Row]:
        assert self.server is not None
        found = chaos_store.rows(self.database, self.server.artifacts)
        return [row for row in found if row.tags.get("harness.seed") in self.seeds]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


def served(server: Server, folder: Path, toy_root: Path, seed: int, *more: str) -> Served:
    """Return where two long runs of a seed of its own go on."""
    settings = (f"tracking.uri={server.uri}", "method=radl", f"seed={seed}", f"method.epochs={LONG}", "trainer=default")
    return Served(folder, toy_root, settings=(*settings, *more), server=server, seeds=(str(seed),))


def epochs_since(place: Served, moment: float) -> int:
    """Return how many epochs were measured after a moment, by the time that their values carry."""
    runs = ", ".join(f"'{row.run_id}'" for row in place.rows())
    query = f"SELECT COUNT(*) FROM metrics WHERE key = 'train/loss' AND timestamp > ? AND run_uuid IN ({runs})"
    with contextlib.closing(sqlite3.connect(place.database, timeout=30)) as connection:
        return int(connection.execute(query, (int(moment * 1000),)).fetchone()[0])


def in_training(place: Served) -> bool:
    rows = [row for row in place.rows() if row.status == "RUNNING"]
    return len(rows) == 2 and all(len(row.history.get("train/loss", ())) >= 3 for row in rows)


def test_a_short_outage(server: Server, tmp_path: Path, toy_root: Path, ledger: Ledger) -> None:
    """The MLflow server is killed while runs train, and started again: every epoch is there, once"""
    server.start()
    place = served(server, tmp_path, toy_root, 100, WITH_PATIENCE)
    with closing(place.start()) as command:
        wait_for(lambda: in_training(place) or command.poll() is not None, 120)
        killed, moment = server.kill(), time.time()
        time.sleep(3)
        back = time.time()
        server.start()
        code, output, errors = command.end(400)
    assert code == 0, output + errors
    assert "does not answer" in errors
    assert "answers again" in errors
    found = ledger.checked({}, place, epochs=LONG)
    assert len(found) == 2
    away = epochs_since(place, moment) - epochs_since(place, back)
    assert away, "no run went on while the server was away"
    ledger.set(moments=1, kills=killed, before=len(found), epochs_measured_while_away=away)
    ledger.completes(place, place.start, 2, epochs=LONG)


def test_killed_while_artifacts_are_uploaded(server: Server, tmp_path: Path, toy_root: Path, ledger: Ledger) -> None:
    """The MLflow server is killed while artifacts are uploaded, and started again: all of them are there"""
    server.start()
    own = (WITH_PATIENCE, "metrics.heatmaps=20", f"method.epochs={chaos_store.EPOCHS}")
    place = served(server, tmp_path, toy_root, 200)
    with closing(place.start(*own)) as command:
        wait_for(
            lambda: any("artifacts" in row.phase for row in place.rows()) or command.poll() is not None,
            120, every=0.001,
        )  # fmt: skip
        killed = server.kill()
        uploaded = Counter(row.status for row in place.rows())
        server.start()
        code, output, errors = command.end(400)
    assert code == 0, output + errors
    assert uploaded["RUNNING"], uploaded
    found = ledger.checked({}, place)
    assert len(found) == 2
    assert all(len(list(row.folder.glob("heatmaps/*.png"))) >= 20 for row in found.values())
    ledger.set(moments=1, kills=killed, before=len(found))
    ledger.completes(place, lambda: place.start(*own), 2)


def test_a_server_that_hangs(server: Server, tmp_path: Path, toy_root: Path, ledger: Ledger) -> None:
    """The MLflow server hangs until requests are given up, then does them all: nothing is doubled"""
    server.start()
    place = served(server, tmp_path, toy_root, 300, WITH_PATIENCE)
    place.environment["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "2"
    with closing(place.start()) as command:
        wait_for(lambda: in_training(place) or command.poll() is not None, 120)
        server.send(signal.SIGSTOP)
        time.sleep(HUNG_SECONDS)
        server.send(signal.SIGCONT)
        code, output, errors = command.end(400)
    assert code == 0, output + errors
    assert "does not answer" in errors
    found = ledger.checked({}, place, epochs=LONG)
    assert len(found) == 2
    assert len(place.rows()) == 2
    ledger.set(moments=1, before=len(found))
    place.environment.clear()
    ledger.completes(place, place.start, 2, epochs=LONG)


def test_a_long_outage(server: Server, tmp_path: Path, toy_root: Path, ledger: Ledger) -> None:
    """The MLflow server is killed and does not come back while runs have patience: a sentence"""
    server.start()
    place = served(server, tmp_path, toy_root, 400)
    seeds = "seed=400,401"
    place.seeds = ("400", "401")
    with closing(place.start("tracking.patience=3", seeds)) as command:
        wait_for(lambda: in_training(place) or command.poll() is not None, 120)
        killed, since = server.kill(), time.monotonic()
        code, output, errors = command.end(300)
        seconds = time.monotonic() - since
    assert code == 1, output + errors
    assert counts(output) == {"runs": 4, "failed": 4}
    reasons = {line.partition("failed: ")[2] for line in errors.splitlines() if "failed: " in line}
    assert all(server.uri in reason and "tracking.uri" in reason for reason in reasons), reasons
    found = ledger.checked({}, place, epochs=LONG)
    assert not found
    with closing(place.start(seeds)) as command:
        code, output, errors = command.end(120)
    assert code == 1, output + errors
    told = [line for line in sentences(output + errors) if server.uri in line]
    assert told, output + errors
    server.start()
    ledger.set(moments=1, kills=killed, before=0, seconds_to_the_end=round(seconds), said=min(reasons, key=len))
    ledger.completes(place, lambda: place.start(seeds), 4, epochs=LONG)

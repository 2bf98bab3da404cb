"""A store that is away is waited for: real requests, to a port where nobody listens yet."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from harness.errors import TrackingError
from harness.runs import patience
from harness.runs.patience import Patience
from harness.store_errors import told


class Experiments(BaseHTTPRequestHandler):
    """Answers as a tracking server does that has no experiments."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"experiments": []}')

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.1)
    yield


def ask(uri: str) -> list[object]:
    return list(MlflowClient(uri).search_experiments())


def serve(port: int, seconds: float) -> threading.Thread:
    def after_a_while() -> None:
        time.sleep(seconds)
        with HTTPServer(("127.0.0.1", port), Experiments) as server:
            server.handle_request()

    thread = threading.Thread(target=after_a_while)
    thread.start()
    return thread


def test_a_server_that_comes_back_is_waited_for(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    uri = f"http://127.0.0.1:{port}"
    asked = Patience(uri, 60)
    assert not asked.attempt("written", lambda: ask(uri) and None)
    thread = serve(port, 0.5)
    assert asked.insist("read", lambda: ask(uri)) == []
    thread.join()
    told = [line for line in capfd.readouterr().err.splitlines() if "MLflow store" in line]
    assert [("does not answer" in line, "answers again" in line) for line in told] == [(True, False), (False, True)]


def test_patience_runs_out_once_for_all(port: int) -> None:
    uri = f"http://someone:secret@127.0.0.1:{port}"
    asked = Patience(uri, 0.5)
    for slow in (True, False):
        began = time.monotonic()
        with pytest.raises(TrackingError, match=r"no server answers there\); start it") as caught:
            asked.insist("read", lambda: ask(uri))
        assert "secret" not in str(caught.value)
        assert (time.monotonic() - began > 0.5) == slow


def test_what_waiting_does_not_help_is_told_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def full() -> None:
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
            database.execute("PRAGMA max_page_count = 1")
            database.execute("CREATE TABLE metrics (value)")

    asked = Patience(uri, 60)
    with pytest.raises(TrackingError, match="full"):
        asked.insist("written", full)
    with pytest.raises(TrackingError, match="full"):
        asked.attempt("written", full)


@pytest.mark.parametrize(("status", "passes"), [(413, False), (403, False), (404, False), (429, True), (502, True)])
def test_what_a_proxy_refuses_is_no_outage(port: int, status: int, passes: bool) -> None:
    """An upload of artifacts that is too large will be so in half an hour."""

    class Refuses(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(status)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", port), Refuses) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(requests.HTTPError) as caught:
            requests.put(f"http://127.0.0.1:{port}/a", data=b"x", timeout=10).raise_for_status()
        thread.join()
    uri = f"http://127.0.0.1:{port}"
    assert patience.is_outage(uri, caught.value) == passes
    if status == 413:
        assert "client_max_body_size" in told(uri, caught.value)


def test_a_server_that_hangs_is_asked_seldom(port: int) -> None:
    """Each request waits for its time-out: asked after every epoch, training would stand still."""
    asked = Patience(f"http://127.0.0.1:{port}", 60)
    requested = 0

    def hang() -> None:
        nonlocal requested
        requested += 1
        time.sleep(0.2)
        raise ConnectionError("timed out")

    began = time.monotonic()
    while time.monotonic() - began < 3:
        assert not asked.attempt("written", hang)
        time.sleep(0.01)
    assert requested in (1, 2)  # 0.2 s and 1.8 s without


def test_an_interrupt_does_not_wait_for_a_server(port: int, interruptible: None) -> None:
    """It waits for a transaction of a database, and not for the answer of a server, which may take minutes."""
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Patience(f"http://127.0.0.1:{port}", 60).insist("read", lambda: time.sleep(30))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("signals", "waits"),
    [((0.2,), True), ((0.2, 0.3), True), ((0.2, 1.6), False)],
    ids=["one", "two at once", "another one later"],
)
def test_an_interrupt_waits_for_a_database(
    signals: tuple[float, ...], waits: bool, tmp_path: Path, interruptible: None
) -> None:
    """Several at once mean one, as from a terminal that closes; a later one means that it takes too long."""
    for after in signals:
        threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    done = []

    def work() -> None:
        time.sleep(2 if waits else 30)
        done.append(True)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Patience(f"sqlite:///{tmp_path}/mlflow.db", 60).insist("written", work)
    assert bool(done) == waits
    assert time.monotonic() - began < 10

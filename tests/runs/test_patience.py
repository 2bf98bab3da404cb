"""A store that is away is waited for: real requests, to a port where nobody listens yet."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.errors import TrackingError
from harness.runs import patience
from harness.runs.patience import Patience


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

"""A PostgreSQL cluster and MLflow tracking servers for as long as a test or a suite needs them, on loopback."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
USER = "harness"
DATABASE = "mlflow_store"
_DEBIAN = Path("/usr/lib/postgresql")
_START_SECONDS, _STOP_SECONDS = 180.0, 10.0
_UNPRIVILEGED = ("postgres", "nobody")


class Postgres(NamedTuple):
    """A running cluster with an empty database for MLflow.

    The password is in no URI, hence in no process list and no MLflow parameter: libpq takes it from `PGPASSWORD`.
    """

    port: int
    password: str
    log: Path

    @property
    def uri(self) -> str:
        """The database as SQLAlchemy and MLflow name it; the driver is named, for its default differs by version."""
        return f"postgresql+psycopg://{USER}@{HOST}:{self.port}/{DATABASE}"

    @property
    def dsn(self) -> str:
        """The database as psycopg's `connect` names it."""
        return f"host={HOST} port={self.port} user={USER} password={self.password} dbname={DATABASE}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process that connects needs."""
        return {"PGPASSWORD": self.password}


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's programs, on PATH or where Debian puts them; None where there are none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    newest = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return newest[-1].parent if newest else None


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a cluster in a temporary folder, with password authentication, as PostgreSQL comes otherwise.

    PostgreSQL refuses to run as root, so root starts it as a user who may less.
    """
    programs = find_postgres()
    assert programs is not None, "PostgreSQL is not installed: apt install postgresql"
    folder = Path(tempfile.mkdtemp(prefix="harness-postgres-"))  # short: a socket's path has 107 bytes
    try:
        user = _unprivileged_user() if os.geteuid() == 0 else None
        password = secrets.token_hex(16)
        (folder / "password").write_text(password)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        _call(user, programs / "initdb", "-D", folder / "data", "-U", USER, "-E", "UTF8", "--no-locale",
              "--auth=scram-sha-256", f"--pwfile={folder / 'password'}")  # fmt: skip
        port, log = free_port(), folder / "log"
        settings = {"listen_addresses": HOST, "unix_socket_directories": str(folder)}
        options = [f"--{key}={value}" for key, value in settings.items()]
        with log.open("wb") as output:
            server = subprocess.Popen(
                _as_user(user, programs / "postgres", "-D", folder / "data", f"--port={port}", *options),
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            found = Postgres(port, password, log)
            _create_database(found, server)
            yield found
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's "fast" shutdown
            _wait_or_kill(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def tracking_server(
    folder: Path, backend: str, environment: Mapping[str, str] | None = None, workers: int = 4
) -> Iterator[str]:
    """Run `mlflow server` on a free port of loopback, and give its URI.

    Args:
        folder: of its log and artifacts.
        backend: URI of its database.
        environment: variables besides this process's own.
        workers: processes that answer; 4 is MLflow's default.
    """
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend),
        *("--artifacts-destination", str(folder / "artifacts"), "--host", HOST, "--port", str(port)),
        *("--workers", str(workers)),
    ]
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | own | dict(environment or {}),
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        uri = f"http://{HOST}:{port}"
        _wait_until_healthy(uri, server, log)
        yield uri
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)  # its workers too
        _wait_or_kill(server)


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _unprivileged_user() -> str:
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)


def _as_user(user: str | None, *command: str | Path) -> list[str]:
    become = ["runuser", "-u", user, "--"] if user else []
    return [*become, *map(str, command)]


def _call(user: str | None, *command: str | Path) -> None:
    done = subprocess.run(_as_user(user, *command), capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


def _create_database(found: Postgres, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            with psycopg.connect(found.dsn, dbname="postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL does not start: {found.log.read_text()}") from None
            time.sleep(0.1)


def _wait_until_healthy(uri: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"mlflow server does not start: {log.read_text()[-3000:]}")
        time.sleep(0.2)


def _wait_or_kill(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

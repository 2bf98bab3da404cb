"""Servers and hosts for the tests of scale: PostgreSQL, MLflow's tracking server, host names of one's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # benchmarks, which is not installed

from benchmarks.servers import Postgres, find_postgres, postgres, tracking_server  # noqa: E402
from benchmarks.tracking_load import elsewhere  # noqa: E402


@pytest.fixture(scope="session")
def postgresql() -> None:
    """Skip where PostgreSQL or its driver is missing."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    if find_postgres() is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")


@pytest.fixture(scope="session")
def cluster(postgresql: None) -> Iterator[Postgres]:
    with postgres() as started:
        yield started


@pytest.fixture(scope="session")
def server(cluster: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a tracking server on PostgreSQL, with MLflow's default number of workers."""
    folder = tmp_path_factory.mktemp("server")
    with tracking_server(folder, cluster.uri, cluster.environment) as uri:
        yield uri


@pytest.fixture(scope="session")
def hosts() -> None:
    """Skip where a process cannot have a host name of its own."""
    if subprocess.run([*elsewhere(), "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine gives a process no host name of its own (unshare --uts)")

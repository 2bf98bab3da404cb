"""Databases before MLflow opens them: it waits for minutes for what cannot be opened, and leaves some half made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine

from harness.errors import TrackingError
from harness.uri import is_database, scheme_of, sqlite_path


def require_database(uri: str) -> None:
    """Open a database once: MLflow would try for minutes what cannot be opened, and make its tables in any other's.

    Raises:
        TrackingError: for a file that another program's database is in.
    """
    if not uri.startswith("sqlite:"):
        if is_database(uri) and scheme_of(uri) != "sqlite":  # not sqlite+DRIVER
            engine = create_engine(uri)
            engine.connect().close()
            engine.dispose()
        return
    path = sqlite_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _aside(path) as beside, closing(sqlite3.connect(path if path.exists() else beside)) as connection:
        tables = sorted(name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
    if tables and "alembic_version" not in tables:
        raise TrackingError(
            f"{path} is a database of something else (its tables: {', '.join(tables[:3])}); give another tracking.uri."
        )


def create_sqlite(uri: str) -> None:
    """Make a new database aside and rename it: one whose migration is killed half-way could never be opened again."""
    path = sqlite_path(uri) if uri.startswith("sqlite:") else None
    if path is None or path.exists():
        return
    for leftover in path.parent.glob(f".creating-*-{path.name}*"):
        leftover.unlink(missing_ok=True)
    with _aside(path) as beside:
        MlflowClient(tracking_uri=f"sqlite:///{beside}").search_experiments(max_results=1)
        beside.replace(path)


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Yield a file beside a database that is gone afterwards.

    No two have one name: MLflow keeps connections by name, and with them a file that failed and is deleted.
    """
    beside = path.with_name(f".creating-{uuid4().hex}-{path.name}")
    try:
        yield beside
    finally:
        for leftover in path.parent.glob(f"{beside.name}*"):  # with a journal
            leftover.unlink(missing_ok=True)

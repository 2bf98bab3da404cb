"""Finished runs as an MLflow store holds them, read by SQL where it is a database and by MLflow's client where not.

MLflow's client takes minutes to read ten thousand runs of a database; four queries take seconds, and give the same.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pandas as pd

from harness.errors import TrackingError
from harness.store_errors import told
from harness.uri import is_database, masked, require_readable, scrubbed, sqlite_path

if TYPE_CHECKING:
    from sqlalchemy import Select

FINISHED = {"harness.finished": "true"}
TABLES = {
    "experiments": ("experiment_id", "name", "lifecycle_stage"),
    "runs": ("run_uuid", "name", "status", "start_time", "lifecycle_stage", "artifact_uri", "experiment_id"),
    "tags": ("key", "value", "run_uuid"),
    "params": ("key", "value", "run_uuid"),
    "latest_metrics": ("key", "value", "is_nan", "run_uuid"),
    "metrics": ("key", "value", "is_nan", "step", "timestamp", "run_uuid"),
}
PAGE = 1000


class Logged(NamedTuple):
    """One finished run, as it was logged; metrics are those of the last step."""

    run_id: str
    name: str
    experiment: str
    start_time: int
    artifact_uri: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Store(Protocol):
    """What the report asks a store for."""

    def experiments(self) -> set[str]:
        """Return the names of all experiments."""

    def finished(self, experiment: str | None, matching: str | None = None) -> list[Logged]:
        """Return the finished runs of an experiment, or of all, that match an MLflow filter; in no order."""

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Return run_id, metric, epoch and value of every step of some metrics of some runs."""


def open_store(uri: str) -> Store:
    """Return an existing store; looking never creates one.

    Raises:
        TrackingError: when there is no store, or it cannot be opened.
    """
    require_readable(uri)
    scheme = uri.partition(":")[0].lower() if ":" in uri else ""
    if scheme.startswith("sqlite"):
        _require_sqlite_store(uri)
    elif scheme in ("", "file"):
        raise TrackingError(
            f"tracking.uri={uri} is a folder, which MLflow no longer reads; "
            "give sqlite:///FOLDER/mlflow.db or a server."
        )
    try:
        return Database(uri) if is_database(uri) else Server(uri)
    except Exception as error:  # an unknown scheme, a driver that is missing, a server that is down
        raise TrackingError(f"The MLflow store {masked(uri)} cannot be reached {told(uri, error)}.") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, without passwords."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return scrubbed(text)[:300]


class Database:
    """A store that MLflow keeps in an SQL database of its own."""

    def __init__(self, uri: str) -> None:
        """Open the database, and read the names of its experiments to see that it is MLflow's."""
        from sqlalchemy import column, create_engine, table

        self._uri, self._engine = uri, create_engine(uri)
        self._tables = {name: table(name, *map(column, columns)) for name, columns in TABLES.items()}
        self._names = self._experiments()

    def experiments(self) -> set[str]:
        """Return the names of all experiments."""
        return set(self._names.values())

    def finished(self, experiment: str | None, matching: str | None = None) -> list[Logged]:
        """Return the finished runs of an experiment, or of all, that match an MLflow filter; in no order."""
        from sqlalchemy import select

        runs = self._tables["runs"].c
        wanted = self._finished(experiment)
        columns = (runs.run_uuid, runs.name, runs.experiment_id, runs.start_time, runs.artifact_uri)
        query = select(*columns).where(runs.run_uuid.in_(wanted))
        found = {
            run_id: Logged(run_id, name, self._names[number], start, artifacts, {}, {}, {})
            for run_id, name, number, start, artifacts in self._rows(query)
        }
        for name in ("tags", "params"):
            of = self._tables[name].c
            for run_id, key, value in self._rows(select(of.run_uuid, of.key, of.value).where(of.run_uuid.in_(wanted))):
                if run_id in found:  # a sweep may finish runs between two queries
                    getattr(found[run_id], name)[key] = value
        last = self._tables["latest_metrics"].c
        query = select(last.run_uuid, last.key, last.value, last.is_nan).where(last.run_uuid.in_(wanted))
        for run_id, key, value, is_nan in self._rows(query):
            if run_id in found:
                found[run_id].metrics[key] = float("nan") if is_nan else value
        if matching is None:
            return list(found.values())
        return [found[run.run_id] for run in Server(self._uri).finished(experiment, matching) if run.run_id in found]

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Return run_id, metric, epoch and value of every step of some metrics of some runs."""
        from sqlalchemy import select

        of = self._tables["metrics"].c
        query = select(of.run_uuid, of.key, of.step, of.value, of.is_nan)
        query = query.where(of.run_uuid.in_(self._finished(None)), of.key.in_(metrics))
        wanted = set(run_ids)
        rows = [
            (run_id, key, step, float("nan") if is_nan else value)
            for run_id, key, step, value, is_nan in self._rows(query)
            if run_id in wanted
        ]
        return _as_histories(rows)

    def _experiments(self) -> dict[Any, str]:
        from sqlalchemy import select

        of = self._tables["experiments"].c
        query = select(of.experiment_id, of.name).where(of.lifecycle_stage == "active")
        return dict(tuple(row) for row in self._rows(query))

    def _finished(self, experiment: str | None) -> Select[Any]:
        """Return the query of the finished runs' ids: each table is read by it, whatever their number."""
        from sqlalchemy import select

        runs, tags = self._tables["runs"].c, self._tables["tags"].c
        ((key, value),) = FINISHED.items()
        numbers = [number for number, name in self._names.items() if experiment in (None, name)]
        return (
            select(runs.run_uuid)
            .join(self._tables["tags"], tags.run_uuid == runs.run_uuid)
            .where(tags.key == key, tags.value == value, runs.status == "FINISHED")
            .where(runs.lifecycle_stage == "active", runs.experiment_id.in_(numbers))
        )

    def _rows(self, query: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(query).fetchall()


class Server:
    """A store behind MLflow's tracking server, or any that MLflow's client can open."""

    def __init__(self, uri: str) -> None:
        """Connect, and ask for an experiment to see that it answers."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's 7 keep a user waiting for minutes
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._client.search_experiments(max_results=1)

    def experiments(self) -> set[str]:
        """Return the names of all experiments."""
        return set(self._experiments().values())

    def finished(self, experiment: str | None, matching: str | None = None) -> list[Logged]:
        """Return the finished runs of an experiment, or of all, that match an MLflow filter; in no order."""
        names = self._experiments()
        ids = [key for key, name in names.items() if experiment in (None, name)]
        ((key, value),) = FINISHED.items()
        wanted = f"attributes.status = 'FINISHED' and tags.`{key}` = '{value}'" + (
            f" and {matching}" if matching else ""
        )
        search = partial(self._client.search_runs, ids, wanted)
        found = []
        for run in _pages(search) if ids else ():
            info, data = run.info, run.data
            place = (info.run_id, info.run_name, names[info.experiment_id], info.start_time, info.artifact_uri)
            found.append(Logged(*place, data.tags, data.params, data.metrics))
        return found

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Return run_id, metric, epoch and value; eight requests at a time, for a far server answers slowly."""
        wanted = [(run_id, metric) for run_id in run_ids for metric in metrics]
        with ThreadPoolExecutor(8) as pool:
            histories = list(pool.map(lambda item: self._client.get_metric_history(*item), wanted))
        rows = [
            (run_id, key, point.step, point.value)
            for (run_id, key), history in zip(wanted, histories, strict=True)
            for point in history
        ]
        return _as_histories(rows)

    def _experiments(self) -> dict[str, str]:
        return {found.experiment_id: found.name for found in _pages(self._client.search_experiments)}


def _as_histories(rows: list[tuple[str, str, int, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["run_id", "metric", "epoch", "value"])
    frame = frame.astype({"epoch": int, "value": float})
    return frame.sort_values(["run_id", "metric", "epoch"], kind="stable", ignore_index=True)


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield everything a paged MLflow search finds."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _require_sqlite_store(uri: str) -> None:
    path = sqlite_path(uri)
    if not path.is_file():
        raise TrackingError(
            f"There is no MLflow store at {path}; run `python -m harness` first, or name one with tracking.uri=…"
        )
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TrackingError(f"{path} cannot be read as an MLflow store {told(uri, error)}.") from error
    if not TABLES.keys() <= tables:
        raise TrackingError(
            f"{path} is no MLflow store, for it has no tables of runs: name the store with tracking.uri=sqlite:///FILE."
        )

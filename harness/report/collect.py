"""From an MLflow store to tidy frames; the only file of the report that knows MLflow."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import TrackingError
from harness.report.figures import EPOCH_METRICS
from harness.report.holes import unit
from harness.report.study import Record, Study, assemble, drop_duplicates
from harness.uri import masked, scrubbed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

IDENTITY = ("run_key", "method", "dataset", "category", "seed")
FACTS = (
    "protocol",
    "weights",
    "data_fingerprint",
    "git_commit",
    "version",
    "device",
    "libraries",
    "trainable",
    "features",
)
FINISHED = "attributes.status = 'FINISHED' and tags.`harness.finished` = 'true'"
PAGE = 1000


def collect(uri: str, experiment: str | None = None, expected: Sequence[Mapping[str, Any]] | None = None) -> Study:
    """Read the finished runs of a store.

    Args:
        uri: any MLflow tracking URI.
        experiment: an MLflow experiment; None takes every experiment.
        expected: the cells of the experiment's grids (run_key, method, dataset, category, seed, fold, needs). Given
            them, runs are taken by their key from the whole store, whichever experiment ran them.

    Raises:
        TrackingError: when the store is missing, cannot be reached, or has nothing finished.
    """
    client = open_store(uri)
    store = masked(uri)
    try:
        found = _finished(client, None if expected is not None else experiment, store)
        notes: list[str] = []
        if expected is not None:
            found, expected, notes = _in_grid(found, str(experiment), expected)
        elif experiment is None:
            found, notes = _without_trials(found)
        if not found:
            raise TrackingError(_nothing_finished(experiment, expected, store))
        found, doubles = drop_duplicates(found)
        epochs = _histories(client, found)
    except TrackingError:
        raise
    except Exception as error:  # MLflow passes on whatever its backend raises
        raise TrackingError(f"The MLflow store {store} cannot be read: {_first_line(error)}") from error
    return assemble(found, epochs, notes + doubles, expected, store)


def _without_trials(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Leave out of a report of everything what only studies asked for, unless there is nothing else."""
    others = [record for record in records if not record["trial"]]
    trials = len(records) - len(others)
    if not trials or not others:
        return records, []
    note = f"{trials} finished runs are trials of harness.tune, which are left out; experiment=tune reports them."
    return others, [note]


def _nothing_finished(experiment: str | None, expected: Sequence[Mapping[str, Any]] | None, store: str) -> str:
    what = f"of experiment '{experiment}' " if experiment else ""
    needs = [cell.get("needs") for cell in expected or ()]
    if needs and all(needs):
        sentences = " ".join(dict.fromkeys(str(sentence) for sentence in needs))
        return f"No run {what}is possible with the public data: {sentences}"
    return f"No run {what}has finished in the MLflow store {store}; start some with `python -m harness`."


def open_store(uri: str) -> MlflowClient:
    """Return a client of an existing store; looking never creates one.

    Raises:
        TrackingError: when there is no store, or MLflow cannot open it.
    """
    scheme = uri.partition(":")[0].lower() if ":" in uri else ""
    if scheme.startswith("sqlite"):
        _require_sqlite_store(uri)
    elif scheme in ("", "file"):
        raise TrackingError(
            f"tracking.uri={uri} is a folder, which MLflow no longer reads; "
            "give sqlite:///FOLDER/mlflow.db or a server."
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's 7 keep a user waiting for minutes
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # an unknown scheme, a driver that is missing, a server that is down
        reason = _first_line(error)
        raise TrackingError(
            f"The MLflow store {masked(uri)} cannot be reached; check tracking.uri ({reason})."
        ) from error
    return client


def _require_sqlite_store(uri: str) -> None:
    from sqlalchemy.engine import make_url

    path = make_url(uri).database or ""
    if not Path(path).is_file():
        raise TrackingError(
            f"There is no MLflow store at {path or uri}; run `python -m harness` first, or name one with tracking.uri=…"
        )
    try:
        connection = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TrackingError(f"{path} cannot be read as an MLflow store: {error}.") from error
    if not {"experiments", "runs", "metrics"} <= tables:
        raise TrackingError(f"{path} is no MLflow store: it has no tables of runs.")


def _first_line(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return scrubbed(text)[:300]


def _finished(client: MlflowClient, experiment: str | None, store: str) -> list[Record]:
    """Return one record a finished run of one experiment, or of all, the earliest first."""
    experiments = {found.experiment_id: found.name for found in _pages(client.search_experiments)}
    if experiment is not None and experiment not in experiments.values():
        known = ", ".join(sorted(set(experiments.values()) - {"Default"})) or "none"
        raise TrackingError(f"The MLflow store {store} has no experiment '{experiment}'; it has: {known}.")
    ids = [key for key, name in experiments.items() if experiment in (None, name)]
    runs = _pages(partial(client.search_runs, ids, FINISHED)) if ids else ()
    records = [_record(run, experiments[run.info.experiment_id]) for run in runs]
    return sorted(records, key=lambda record: (record["start_time"], record["run_id"]))


def _in_grid(
    records: list[Record], experiment: str, expected: Sequence[Mapping[str, Any]]
) -> tuple[list[Record], Sequence[Mapping[str, Any]] | None, list[str]]:
    """Choose the runs of the grid's cells.

    Runs that bear the experiment's name but have other settings are told of, or reported where there is nothing else.
    """
    keys = {cell["run_key"] for cell in expected}
    chosen = [record for record in records if record["run_key"] in keys]
    others = [r for r in records if r["experiment"] == experiment and r["run_key"] not in keys]
    if others and not chosen:
        note = f"None of the {len(keys)} cells of experiment {experiment} as it is configured has finished"
        return others, expected, [f"{note}; shown are runs of other settings that bear its name."]
    note = f"{len(others)} finished runs bear the name {experiment} but are not in its grid; they do not count."
    return chosen, expected, [note] if others else []


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield everything a paged MLflow search finds."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _record(run: Run, experiment: str) -> dict[str, Any]:
    tags, info = run.data.tags, run.info
    missing = [name for name in IDENTITY if f"harness.{name}" not in tags]
    if missing:
        raise TrackingError(f"Run {info.run_id} is marked finished but lacks the tag harness.{missing[0]}.")
    record: dict[str, Any] = {"run_id": info.run_id, "name": info.run_name, "experiment": experiment}
    record |= {name: tags[f"harness.{name}"] for name in IDENTITY}
    record |= {name: tags.get(f"harness.{name}", "unknown") for name in FACTS}
    record |= {"seed": int(record["seed"]), "trainable": record["trainable"] == "true"}
    record["fold"] = tags.get("harness.fold", "")
    record["unit"] = unit(record["seed"], record["fold"])
    record["shots"] = run.data.params.get("protocol.shots", "None").replace("None", "")
    record["trial"] = "harness.trial" in tags and "harness.asked" not in tags
    record["classifier_libraries"] = tags.get("harness.classifier_libraries", "")
    record["tuned_on_test"] = tags.get("harness.tuned_on_test", "")
    record["timing"] = run.data.params.get("timing") == "True"
    record["eval_batch_size"] = run.data.params.get("trainer.eval_batch_size", "unknown")
    record["artifact_uri"] = info.artifact_uri
    record |= {"start_time": info.start_time, "params": run.data.params, "metrics": run.data.metrics}
    return record


def _histories(client: MlflowClient, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Fetch what the figures draw; eight requests at a time, for a far server answers slowly."""
    wanted = [
        (record["run_id"], key)
        for record in records
        if record["trainable"]
        for key in EPOCH_METRICS
        if key in record["metrics"]
    ]
    with ThreadPoolExecutor(8) as pool:
        histories = list(pool.map(lambda item: client.get_metric_history(*item), wanted))
    rows = [
        (run_id, key, point.step, point.value)
        for (run_id, key), history in zip(wanted, histories, strict=True)
        for point in history
    ]
    frame = pd.DataFrame(rows, columns=["run_id", "metric", "epoch", "value"])
    return frame.astype({"epoch": int, "value": float})

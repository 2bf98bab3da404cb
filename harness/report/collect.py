"""From an MLflow store to tidy frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import ConfigError, TrackingError
from harness.report.figures import EPOCH_METRICS
from harness.report.holes import unit
from harness.report.store import Logged, Store, first_line, open_store
from harness.report.study import Record, Study, assemble, drop_duplicates
from harness.store_errors import told
from harness.uri import masked

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


def collect(
    uri: str,
    experiment: str | None = None,
    expected: Sequence[Mapping[str, Any]] | None = None,
    matching: str | None = None,
) -> Study:
    """Read the finished runs of a store.

    Args:
        uri: any MLflow tracking URI.
        experiment: an MLflow experiment; None takes every experiment.
        expected: the cells of the experiment's grids (run_key, method, dataset, category, seed, fold, needs). Given
            them, runs are taken by their key from the whole store, whichever experiment ran them.
        matching: of these runs only those that match an MLflow filter.

    Raises:
        TrackingError: when the store is missing, cannot be reached, or has nothing finished.
    """
    opened = open_store(uri)
    store = masked(uri)
    try:
        found = _finished(opened, None if expected is not None else experiment, matching, store)
        notes: list[str] = []
        if expected is not None:
            found, expected, notes = _in_grid(found, str(experiment), expected)
        elif experiment is None:
            found, notes = _without_trials(found)
        if not found:
            raise TrackingError(_nothing_finished(experiment, expected, store))
        found, doubles = drop_duplicates(found)
        trained = [record["run_id"] for record in found if record["trainable"]]
        logged = {key for record in found for key in record["metrics"]}
        epochs = opened.histories(trained, [key for key in EPOCH_METRICS if key in logged])
    except TrackingError:
        raise
    except Exception as error:  # MLflow passes on whatever its backend raises
        if matching is not None and getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
            raise ConfigError(
                f"filter={matching} is not possible ({first_line(error)}); write it as MLflow's search does: "
                "filter=\"tags.harness.method = 'radl'\"."
            ) from error
        raise TrackingError(f"The MLflow store {store} cannot be read {told(uri, error)}.") from error
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


def _finished(opened: Store, experiment: str | None, matching: str | None, store: str) -> list[Record]:
    """Return one record a finished run of one experiment, or of all, the earliest first."""
    experiments = opened.experiments()
    if experiment is not None and experiment not in experiments:
        known = ", ".join(sorted(experiments - {"Default"})) or "none"
        raise TrackingError(f"The MLflow store {store} has no experiment '{experiment}'; it has: {known}.")
    records = [_record(run) for run in opened.finished(experiment, matching)]
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


def _record(run: Logged) -> Record:
    tags, params = run.tags, run.params
    missing = [name for name in IDENTITY if f"harness.{name}" not in tags]
    if missing:
        raise TrackingError(f"Run {run.run_id} is marked finished but lacks the tag harness.{missing[0]}.")
    record: Record = {"run_id": run.run_id, "name": run.name, "experiment": run.experiment}
    record |= {name: tags[f"harness.{name}"] for name in IDENTITY}
    record |= {name: tags.get(f"harness.{name}", "unknown") for name in FACTS}
    record |= {"seed": int(record["seed"]), "trainable": record["trainable"] == "true"}
    record["fold"] = tags.get("harness.fold", "")
    record["unit"] = unit(record["seed"], record["fold"])
    record["shots"] = params.get("protocol.shots", "None").replace("None", "")
    record["trial"] = "harness.trial" in tags and "harness.asked" not in tags
    record["classifier_libraries"] = tags.get("harness.classifier_libraries", "")
    record["tuned_on_test"] = tags.get("harness.tuned_on_test", "")
    record["timing"] = params.get("timing") == "True"
    record["eval_batch_size"] = params.get("trainer.eval_batch_size", "unknown")
    record["artifact_uri"] = run.artifact_uri
    return record | {"start_time": run.start_time, "params": params, "metrics": run.metrics}

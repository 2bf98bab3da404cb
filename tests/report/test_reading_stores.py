"""A database is read by SQL, and gives what MLflow's own client gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Metric

from harness.errors import TrackingError
from harness.report.__main__ import main
from harness.report.collect import collect
from harness.report.figures import EPOCH_METRICS
from harness.report.store import Database, Server, open_store


def test_sql_and_client_read_the_same(grid: Any) -> None:
    fast, slow = Database(grid.uri), Server(grid.uri)
    assert fast.experiments() == slow.experiments()
    for experiment in ("study", None):
        ours, theirs = (sorted(store.finished(experiment)) for store in (fast, slow))
        assert len(ours) >= 27 and ours == theirs
    ids = [run.run_id for run in fast.finished("study")]
    pd.testing.assert_frame_equal(fast.histories(ids, EPOCH_METRICS), slow.histories(ids, EPOCH_METRICS))
    assert len(fast.histories(ids[:1], EPOCH_METRICS)) == len(slow.histories(ids[:1], EPOCH_METRICS)) > 0


def test_a_metric_that_is_not_a_number_stays_one(make_store: Callable[[str], Any]) -> None:
    store = make_store("nan")
    run_id = store.add("padim", "x", 0)
    store.client.log_batch(run_id, metrics=[Metric("test/auspro", float("nan"), 0, 0)])
    for opened in (Database(store.uri), Server(store.uri)):
        (run,) = opened.finished(None)
        assert run.metrics["test/auspro"] != run.metrics["test/auspro"]


def test_deleted_runs_and_experiments_do_not_count(make_store: Callable[[str], Any]) -> None:
    store = make_store("deleted")
    gone, kept = store.add("padim", "x", 0), store.add("padim", "x", 1)
    store.add("padim", "x", 2, experiment="gone")
    store.client.delete_run(gone)
    store.client.delete_experiment(store.experiments["gone"])
    for opened in (Database(store.uri), Server(store.uri)):
        assert [run.run_id for run in opened.finished(None)] == [kept]
        assert "gone" not in opened.experiments()


def test_an_mlflow_filter_chooses_the_runs(grid: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = collect(grid.uri, "study", matching="tags.harness.method = 'patchcore' and params.seed = '1'")
    assert set(study.runs["method"]) == {"patchcore"} and set(study.runs["seed"]) == {1}
    wrong = ["experiment=study", f"tracking.uri={grid.uri}", f"reports_dir={tmp_path}", "filter=nonsense"]
    assert main(wrong) == 1
    assert "nonsense" in capsys.readouterr().err


def test_a_database_of_something_else_is_named(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (id INTEGER)")
    with pytest.raises(TrackingError, match=r"other\.db is no MLflow store"):
        open_store(f"sqlite:///{path}")


def test_a_run_that_finishes_between_two_queries_is_left_for_the_next_report(
    grid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Database(grid.uri)
    before = {run.run_id for run in store.finished("study")}
    rows = store._rows

    def with_a_late_one(query: Any) -> Any:
        found = rows(query)
        return [*found, ("late", "harness.method", "radl")] if found and len(found[0]) == 3 else found

    monkeypatch.setattr(store, "_rows", with_a_late_one)
    assert {run.run_id for run in store.finished("study")} == before

"""Collecting from real MLflow stores: what counts, what is missing, what is told."""

import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import TrackingError
from harness.report.collect import collect
from harness.uri import masked

MakeStore = Callable[[str], Any]
RESUMED = {"experiment": "elsewhere"}


def test_only_finished_runs_of_the_experiment_count(grid: Any) -> None:
    study = collect(grid.uri, "study")
    assert len(study.runs) == 27
    assert study.holes == ()
    assert study.warnings == ()
    assert set(study.runs["label"]) == {"patchcore", "radl", "radl (fdfa=false, loss=truncated_l1)"}
    assert set(study.runs["seed"]) == {0, 1, 2}


def test_final_values_are_the_last_epochs(grid: Any) -> None:
    study = collect(grid.uri, "study")
    for run in study.runs.to_dict("records"):
        logged = grid.client.get_run(run["run_id"]).data
        history = grid.client.get_metric_history(run["run_id"], "test/image_auroc")
        assert run["test/image_auroc"] == max(history, key=lambda point: point.step).value
        assert run["run_key"] == logged.tags["harness.run_key"]


def test_epochs_of_trainable_runs(grid: Any) -> None:
    study = collect(grid.uri, "study")
    radl = study.runs[study.runs["method"] == "radl"]
    assert set(study.epochs["run_id"]) == set(radl["run_id"])
    one = study.epochs[(study.epochs["run_id"] == radl["run_id"].iloc[0]) & (study.epochs["metric"] == "train/loss")]
    assert one["epoch"].tolist() == list(range(6))
    history = grid.client.get_metric_history(radl["run_id"].iloc[0], "train/loss")
    assert one["value"].tolist() == [point.value for point in history]


def test_without_experiment_everything_counts(grid: Any) -> None:
    study = collect(grid.uri)
    assert len(study.runs) == 27
    assert any("different keys with the same settings" in warning for warning in study.warnings)


def test_a_removed_run_is_a_named_hole(make_store: MakeStore, grid: Any) -> None:
    store = make_store("hole")
    for seed in range(2):
        for category in "xy":
            for method in ("radl", "patchcore"):
                if (method, category, seed) != ("radl", "y", 1):
                    store.add(method, category, seed)
    study = collect(store.uri, "study")
    assert [str(hole) for hole in study.holes] == ["radl / toy / y / seed 1"]
    store.add("padim", "x", 0, dataset="other")
    holes = {str(hole) for hole in collect(store.uri).holes}
    assert "radl / other / x / seed 0" in holes
    assert "radl / other / x / seed 1" not in holes
    assert "padim / toy / y / seed 1" in holes


def test_expected_cells_are_found_by_key_in_the_whole_store(make_store: MakeStore) -> None:
    store = make_store("expected")
    store.add("radl", "x", 0, tags={"run_key": "k0"}, experiment="study")
    store.add("radl", "x", 1, tags={"run_key": "k1", "dataset": "other_name"}, experiment="elsewhere")
    store.add("radl", "x", 5, tags={"run_key": "stray"}, experiment="study")
    cells = [
        {"run_key": f"k{seed}", "method": "radl", "dataset": "toy", "category": "x", "seed": seed} for seed in range(3)
    ]
    study = collect(store.uri, "study", cells)
    assert set(study.runs["run_key"]) == {"k0", "k1"}
    assert set(study.runs["dataset"]) == {"toy"}
    assert [str(hole) for hole in study.holes] == ["radl / toy / x / seed 2 (run key k2)"]
    assert study.warnings == ("1 finished runs bear the name study but are not in its grid; they do not count.",)
    none = [cell | {"run_key": f"other {cell['run_key']}"} for cell in cells]
    fallback = collect(store.uri, "study", none)
    assert set(fallback.runs["run_key"]) == {"k0", "stray"}
    assert "None of the 3 cells" in fallback.warnings[0]
    assert len(fallback.holes) == 3
    with pytest.raises(TrackingError, match="No run of experiment 'never' has finished"):
        collect(store.uri, "never", none)


def test_doubles_mixtures_and_changed_data_are_told(make_store: MakeStore) -> None:
    store = make_store("doubles")
    first = store.add("radl", "x", 0, level=0.9, tags={"run_key": "same"})
    store.add("radl", "x", 0, level=0.1, tags={"run_key": "same"})
    store.add("radl", "x", 1, tags={"device": "cuda", "libraries": "torch=2.8.0"})
    store.add("radl", "y", 0, tags={"data_fingerprint": "aaaaaaaaaaaa"})
    store.add("radl", "y", 1, tags={"data_fingerprint": "bbbbbbbbbbbb"})
    study = collect(store.uri, "study")
    assert first in set(study.runs["run_id"])
    assert study.runs.set_index("run_id").loc[first, "test/image_auroc"] == 0.9
    assert set(study.runs["category"]) == {"x", "y [data aaaaaaaa]", "y [data bbbbbbbb]"}
    text = "\n".join(study.warnings)
    assert "Run key same (radl/x/0) finished twice" in text
    assert "toy/y was run on 2 different contents" in text
    assert "mix devices" in text
    assert "mix library versions" in text


def test_a_moved_store_still_reports(grid: Any, tmp_path: Path) -> None:
    folder = Path(grid.uri.removeprefix("sqlite:///")).parent
    shutil.copytree(folder, tmp_path / "moved")
    moved = collect(f"sqlite:///{tmp_path}/moved/mlflow.db", "study")
    assert moved.runs.equals(collect(grid.uri, "study").runs)


def test_missing_store_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"There is no MLflow store at .*nowhere\.db"):
        collect(f"sqlite:///{tmp_path}/nowhere.db")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_store_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("no database " * 100)
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE things (x)")
    connection.close()
    for name in ("empty.db", "text.db", "other.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(TrackingError, match=name):
            collect(f"sqlite:///{tmp_path}/{name}")
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(TrackingError, match="folder"):
        collect(str(tmp_path / "mlruns"))
    with pytest.raises(TrackingError, match="cannot be reached"):
        collect("nonsense://somewhere")


def test_empty_store_and_unknown_experiment(make_store: MakeStore, grid: Any) -> None:
    store = make_store("empty")
    with pytest.raises(TrackingError, match="No run has finished"):
        collect(store.uri)
    store.add("radl", "x", 0, status="FAILED")
    with pytest.raises(TrackingError, match="No run of experiment 'study' has finished"):
        collect(store.uri, "study")
    with pytest.raises(TrackingError, match="no experiment 'studdy'; it has: elsewhere, study"):
        collect(grid.uri, "studdy")


def test_unreachable_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TrackingError, match=f"127.0.0.1:{port} cannot be reached") as caught:
        collect(f"http://user:secret@127.0.0.1:{port}")
    assert "secret" not in str(caught.value)


def test_passwords_are_masked() -> None:
    assert masked("http://me:secret@host:5000/a?token=1") == "http://***@host:5000/a"
    assert masked("postgresql://me:p%40ss@host/db") == "postgresql://***@host/db"
    assert masked("http://host:5000") == "http://host:5000"
    assert masked("sqlite:///runs/mlflow.db") == "sqlite:///runs/mlflow.db"


def test_trials_of_a_study_stay_out_of_a_report_of_everything(make_store: MakeStore) -> None:
    store = make_store("trials")
    for seed in range(2):
        store.add("radl", "texture", seed)
    tried = [
        store.add("radl", "texture", 0, experiment="tune", tags={"trial": str(i)}, params={"method.tau": f"0.{i}"})
        for i in range(3)
    ]
    everything = collect(store.uri)
    assert not set(everything.runs["run_id"]) & set(tried) and len(everything.runs) == 2
    assert "3 finished runs are trials of harness.tune" in " ".join(everything.warnings)
    assert set(collect(store.uri, "tune").runs["run_id"]) == set(tried)
    asked = store.add("radl", "texture", 7, experiment="tune", tags={"trial": "3", "asked": "true"})
    assert asked in set(collect(store.uri).runs["run_id"])  # a sweep wanted it too, and found it finished

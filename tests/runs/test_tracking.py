"""Who may work on a run: one living process, wherever it stands."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.runs import tracking
from harness.runs.tracking import HEARTBEAT, HOST, BusyError, Store


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


def open_run(store: Store, key: str, **tags: str) -> str:
    run = store.start("study", "r/c/0", {"seed": 0}, {"harness.run_key": key})
    client = MlflowClient(store.uri)
    for name, value in tags.items():
        client.set_tag(run.run_id, {"host": HOST, "beat": HEARTBEAT}[name], value)
    return run.run_id


def test_two_folders_on_one_store_share_its_locks(uri: str, tmp_path: Path) -> None:
    here, there = Store(uri, tmp_path / "here"), Store(uri, tmp_path / "there")
    with here.claim("shared"), pytest.raises(BusyError), there.claim("shared"):
        pass
    with there.claim("shared"):
        pass


def test_a_run_of_another_host_lives_by_its_heartbeat(uri: str, tmp_path: Path) -> None:
    store = Store(uri, tmp_path)
    living = open_run(store, "far", host="elsewhere", beat=str(int(time.time())))
    with pytest.raises(BusyError, match="elsewhere"), store.claim("far"):
        pass
    MlflowClient(uri).set_tag(living, HEARTBEAT, str(int(time.time() - tracking.DEAD_SECONDS - 1)))
    with store.claim("far"):
        pass
    assert MlflowClient(uri).get_run(living).info.status == "KILLED"


def test_a_run_beats_while_it_lives(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "BEAT_SECONDS", 0.2)
    run = Store(uri, tmp_path).start("study", "r/c/0", {}, {"harness.run_key": "beating"})
    client = MlflowClient(uri)
    client.set_tag(run.run_id, HEARTBEAT, "0")
    time.sleep(2)
    assert float(client.get_run(run.run_id).data.tags[HEARTBEAT]) > 0
    run.finish()
    client.set_tag(run.run_id, HEARTBEAT, "0")
    time.sleep(1)
    assert client.get_run(run.run_id).data.tags[HEARTBEAT] == "0"


def test_only_finished_runs_are_found(uri: str, tmp_path: Path) -> None:
    store = Store(uri, tmp_path)
    run = store.start("study", "r/c/0", {}, {"harness.run_key": "done"})
    run.log({"test/image_auroc": 0.5}, step=0)
    assert store.finished("done") is None
    run.log({"test/image_auroc": 0.75}, step=1)
    run.finish()
    found = store.finished("done")
    assert found is not None
    assert (found.run_id, found.metrics["test/image_auroc"]) == (run.run_id, 0.75)


def test_many_params_are_all_kept(uri: str, tmp_path: Path) -> None:
    params = {f"group.key_{i}": i for i in range(250)}
    run = Store(uri, tmp_path).start("study", "r/c/0", params, {})
    assert MlflowClient(uri).get_run(run.run_id).data.params == {key: str(value) for key, value in params.items()}


MAKE_STORE = """
import sys
from pathlib import Path
from harness.runs.tracking import Store
print("go", flush=True)
Store(f"sqlite:///{sys.argv[1]}/mlflow.db", Path(sys.argv[1]))
"""


def test_killed_while_it_makes_a_store_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    """MLflow's first migration takes a second; killed in its middle, it leaves a database that never opens again."""
    moments = random.Random(5)
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", MAKE_STORE, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0.1, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = Store(f"sqlite:///{folder}/mlflow.db", folder)
        assert store.finished("nothing") is None
        assert not list(folder.glob(".creating-*"))

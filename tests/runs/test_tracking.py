"""Who may work on a run: one living process, wherever it stands."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient

from harness.errors import TrackingError
from harness.runs import liveness, patience, tracking
from harness.runs.liveness import HEARTBEAT, HOST, LOCKS
from harness.runs.tracking import BusyError, Store


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


def from_elsewhere(store: Store, key: str, beat: float) -> str:
    """Open a run as a process of another host does, whose locks are not to be seen from here."""
    run = store.start("study", "r/c/0", {"seed": 0}, {"harness.run_key": key})
    client = MlflowClient(store.uri)
    for name, value in ((HOST, "elsewhere"), (LOCKS, "theirs"), (HEARTBEAT, str(int(beat)))):
        client.set_tag(run.run_id, name, value)
    return run.run_id


def of_another_host(uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Open a store as a host does that keeps its locks in a place of its own."""
    with monkeypatch.context() as patch:
        patch.setattr(liveness, "lock_folder", lambda uri: folder)
        return Store(uri, folder)


def test_two_folders_on_one_store_share_its_locks(uri: str, tmp_path: Path) -> None:
    here, there = Store(uri, tmp_path / "here"), Store(uri, tmp_path / "there")
    with here.claim("shared"), pytest.raises(BusyError), there.claim("shared"):
        pass
    with there.claim("shared"):
        pass


def test_a_run_of_another_host_lives_by_its_heartbeat(uri: str, tmp_path: Path) -> None:
    store = Store(uri, tmp_path)
    from_elsewhere(store, "far", time.time())
    with pytest.raises(BusyError, match="elsewhere"), store.claim("far"):
        pass


@pytest.mark.parametrize("age", [liveness.DEAD_SECONDS + 60, -3600])
def test_a_silent_run_of_another_host_is_watched_before_it_is_dead(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    """Clocks of two hosts may be hours apart: one that beats lives, whatever the time it tells."""
    monkeypatch.setattr(liveness, "WATCH_SECONDS", 4)
    store, client, key = Store(uri, tmp_path), MlflowClient(uri), f"silent {age}"
    run_id = from_elsewhere(store, key, time.time() - age)
    beat = threading.Timer(1.5, lambda: client.set_tag(run_id, HEARTBEAT, str(int(time.time() - age + 30))))
    beat.start()
    with pytest.raises(BusyError, match="elsewhere"), store.claim(key):
        pass
    beat.join()
    with store.claim(key):
        pass
    assert client.get_run(run_id).info.status == "KILLED"


def test_a_run_beats_while_it_lives(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.2)
    run = Store(uri, tmp_path).start("study", "r/c/0", {}, {"harness.run_key": "beating"})
    client = MlflowClient(uri)
    client.set_tag(run.run_id, HEARTBEAT, "0")
    time.sleep(2)
    assert float(client.get_run(run.run_id).data.tags[HEARTBEAT]) > 0
    run.finish()
    time.sleep(1)  # a beat may be under way
    client.set_tag(run.run_id, HEARTBEAT, "0")
    time.sleep(1)
    assert client.get_run(run.run_id).data.tags[HEARTBEAT] == "0"


def test_of_two_hosts_that_begin_one_run_at_once_one_goes_on(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_SETTLE_SECONDS", 60)  # on a busy machine a host may be slow to give way
    hosts = [of_another_host(uri, tmp_path / name, monkeypatch) for name in ("a", "b", "c")]
    for attempt in range(5):
        tags = {"harness.run_key": f"both {attempt}"}
        together = threading.Barrier(len(hosts))

        def begin(host: Store, tags: dict[str, str] = tags, together: threading.Barrier = together) -> str | None:
            together.wait()
            try:
                with host.claim(tags["harness.run_key"]):
                    run = host.start("study", "r/c/0", {}, tags)
                    run.finish()
            except BusyError:
                return None
            return run.run_id

        with ThreadPoolExecutor(len(hosts)) as pool:
            won = [run_id for run_id in pool.map(begin, hosts) if run_id]
        found = hosts[0].finished(tags["harness.run_key"])
        assert found is not None
        assert won == [found.run_id]


def test_a_run_that_was_there_first_stays(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_SETTLE_SECONDS", 1)
    first, second = (of_another_host(uri, tmp_path / name, monkeypatch) for name in ("first", "second"))
    run = first.start("study", "r/c/0", {}, {"harness.run_key": "settled"})
    with pytest.raises(BusyError), second.claim("settled"):
        pass
    with pytest.raises(BusyError):  # looked before the other began, and begins after it
        second.start("study", "r/c/0", {}, {"harness.run_key": "settled"})
    run.finish()
    with pytest.raises(BusyError, match="finished"):
        second.start("study", "r/c/0", {}, {"harness.run_key": "settled"})
    runs = MlflowClient(uri).search_runs(["1"], "tags.`harness.run_key` = 'settled'")
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED", "KILLED"]


def test_a_run_that_was_taken_for_dead_does_not_finish(uri: str, tmp_path: Path) -> None:
    store = Store(uri, tmp_path)
    run = store.start("study", "r/c/0", {}, {"harness.run_key": "stopped"})
    MlflowClient(uri).set_terminated(run.run_id, "KILLED")
    with pytest.raises(BusyError, match="taken for dead"):
        run.finish()
    assert store.finished("stopped") is None


def status_of(uri: str, run_id: str) -> str:
    return str(MlflowClient(uri).get_run(run_id).info.status)


def test_a_run_that_finishes_while_it_is_watched_has_finished(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host's clock is wrong, or the server was away until just now: it is no dead run that may be closed."""
    monkeypatch.setattr(liveness, "WATCH_SECONDS", 4)
    store, client = Store(uri, tmp_path), MlflowClient(uri)
    run_id = from_elsewhere(store, "late", time.time() - 3600)

    def finish() -> None:
        client.set_tag(run_id, tracking.FINISHED, "true")
        client.set_terminated(run_id, "FINISHED")

    ending = threading.Timer(1.5, finish)
    ending.start()
    with store.claim("late"):
        found = store.finished("late")
    ending.join()
    assert found is not None and found.run_id == run_id


def test_a_watch_begins_again_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other host could not beat either while the server was away: the first look after it says nothing."""
    monkeypatch.setattr(liveness, "WATCH_SECONDS", 3)
    monkeypatch.setattr(liveness, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.5)
    looks = 0

    def look() -> dict[str, str]:
        nonlocal looks
        looks += 1
        if looks == 14:  # of 15
            time.sleep(1)
        return {HEARTBEAT: "1" if looks < 20 else "2"}

    assert liveness.beats(look, "elsewhere")


def test_a_run_that_died_between_its_marker_and_its_end_has_finished(uri: str, tmp_path: Path) -> None:
    store, client = Store(uri, tmp_path), MlflowClient(uri)
    run = store.start("study", "r/c/0", {}, {"harness.run_key": "marked"})
    client.set_tag(run.run_id, tracking.FINISHED, "true")
    with store.claim("marked"):
        found = store.finished("marked")
    assert found is not None and found.run_id == run.run_id
    info = client.get_run(run.run_id).info
    assert info.start_time <= info.end_time <= 1000 * time.time()


def test_an_interrupt_during_the_last_request_leaves_a_finished_run(
    uri: str, tmp_path: Path, interruptible: None
) -> None:
    store = Store(uri, tmp_path)
    run = store.start("study", "r/c/0", {}, {"harness.run_key": "interrupted"})
    asked = run._client.set_terminated

    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        asked(*arguments)

    run._client.set_terminated = interrupted
    with pytest.raises(KeyboardInterrupt):
        run.finish()
    run.fail("interrupted")  # as everything that goes wrong is told
    assert status_of(uri, run.run_id) == "FINISHED"
    assert store.finished("interrupted") is not None


def test_who_interrupts_does_not_wait_for_a_server_that_is_away(uri: str, tmp_path: Path) -> None:
    run = Store(uri, tmp_path).start("study", "r/c/0", {}, {"harness.run_key": "away"})
    run._patience._tell_away()  # as after a request without an answer
    asked: list[str] = []
    run._client.set_tag = run._client.log_batch = lambda *_, **__: asked.append("asked")
    run.fail("interrupted")
    assert not asked


def test_a_run_that_another_host_closed_stays_closed(uri: str, tmp_path: Path) -> None:
    run = Store(uri, tmp_path).start("study", "r/c/0", {}, {"harness.run_key": "closed"})
    MlflowClient(uri).set_terminated(run.run_id, "KILLED")
    with pytest.raises(BusyError) as caught:
        run.finish()
    run.fail(str(caught.value))
    assert status_of(uri, run.run_id) == "KILLED"


def test_a_folder_of_locks_needs_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """exFAT and several network file systems have none."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(liveness.name_of, [tmp_path] * 8))
    assert len(names) == 1 and names.pop()
    assert {path.name for path in tmp_path.iterdir()} <= {"name", "store.lock"}


def test_a_clock_that_goes_back_makes_no_negative_time(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Store(uri, tmp_path).start("study", "r/c/0", {}, {"harness.run_key": "back"})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 7200)
    run.log({"test/image_auroc": 0.5}, step=0)
    run.finish()
    info = MlflowClient(uri).get_run(run.run_id).info
    assert info.end_time >= info.start_time


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


@pytest.mark.chaos
def test_epochs_are_kept_while_another_process_holds_the_database(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = Store(uri, tmp_path).start("study", "r/c/0", {}, {"harness.run_key": "locked"})
    run.log({"test/image_auroc": 0.0}, step=0)
    with sqlite3.connect(tmp_path / "mlflow.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        run.log({"test/image_auroc": 0.1}, step=1)
    run.log({"test/image_auroc": 0.2}, step=2)
    run.finish()
    history = MlflowClient(uri).get_metric_history(run.run_id, "test/image_auroc")
    assert sorted((point.step, point.value) for point in history) == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert capfd.readouterr().err.count("does not answer") == 1


class Server:
    """A real tracking server on the loopback interface, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        store = f"sqlite:///{self._folder}/mlflow.db"
        options = ["--backend-store-uri", store, "--artifacts-destination", str(self._folder), "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._port), *options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with suppress(OSError), urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.2)
        raise TimeoutError("the tracking server did not start")

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.chaos
def test_epochs_during_an_outage_are_kept_and_written_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.5)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "scores.parquet").write_text("scores")
    store = Store(server.uri, tmp_path, patience=300)
    run = store.start("study", "r/c/0", {"a": 1}, {"harness.run_key": "outage"})
    run.log({"test/image_auroc": 0.0}, step=0)
    server.stop()
    for epoch in (1, 2):
        run.log({"test/image_auroc": epoch / 10}, step=epoch)
    threading.Timer(2, server.start).start()
    run.artifacts(tmp_path / "artifacts")  # waits for the server
    run.log({"test/image_auroc": 0.3}, step=3)
    run.finish()
    history = MlflowClient(server.uri).get_metric_history(run.run_id, "test/image_auroc")
    assert sorted((point.step, point.value) for point in history) == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    assert [entry.path for entry in MlflowClient(server.uri).list_artifacts(run.run_id)] == ["scores.parquet"]
    assert store.finished("outage") is not None
    told = capfd.readouterr().err
    assert told.count("does not answer") == told.count("answers again") == 1

    # A second outage, longer than the patience: a sentence, and those who come after do not wait again.
    hasty = Store(server.uri, tmp_path, patience=3)
    late = hasty.start("study", "r/c/0", {}, {"harness.run_key": "late"})
    server.stop()
    with pytest.raises(TrackingError, match=r"cannot be read after 3 s of waiting"):
        late.finish()
    began = time.monotonic()
    with pytest.raises(TrackingError, match="cannot be read"):
        hasty.finished("late")
    assert time.monotonic() - began < 3
    server.start()
    assert hasty.finished("late") is None
    with hasty.claim("late"):  # closes what the outage left open
        again = hasty.start("study", "r/c/0", {}, {"harness.run_key": "late"})
        again.finish()
    found = hasty.finished("late")
    assert found is not None and found.run_id == again.run_id

"""joblib, Slurm and Ray in their local forms on the real command line: resumed, robbed of a process, interrupted.

Where this machine has Slurm (`sbatch`), a real one is tried too, with a tracking server.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from commands import Process, start_command
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from harness.errors import ConfigError, TrackingError
from harness.grid import Cell
from harness.identity import identify
from harness.launchers import executor_of, jobs_of, launcher_of, stores, what_is_left
from harness.launchers.away import Away, found_instead
from harness.runs.execute import execute
from harness.runs.outcome import Outcome
from harness.runs.tracking import Store
from harness.schema import compose

sys.path.append(str(Path(__file__).resolve().parents[1]))  # benchmarks, which is not installed
from benchmarks.servers import tracking_server

SMALL = ["preprocess.size=32", "metrics.heatmaps=0"]
LAUNCHERS = {
    "joblib": ["launcher=joblib", "launcher.jobs=2"],
    "slurm": ["launcher=slurm", "launcher.executor=local", "launcher.jobs=2"],
    "ray": ["launcher=ray", "launcher.jobs=2"],
    "slurm_cluster": ["launcher=slurm", "launcher.executor=slurm", "launcher.jobs=2", "launcher.minutes=30"],
}
HYDRAS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local"],
}
LONG = ["method=radl", "trainer=default"]  # without the toy profile's cap on epochs
RUNNING, FAILED, FINISHED = "RUNNING", "FAILED", "FINISHED"


class Sweeps:
    """A folder in which grids run with one launcher."""

    def __init__(self, folder: Path, launcher: str, toy_root: Path, uri: str | None) -> None:
        self.folder, self.launcher = folder, launcher
        self._uri = uri or f"sqlite:///{folder}/runs/mlflow.db"
        own = LAUNCHERS[launcher] if launcher in LAUNCHERS else HYDRAS[launcher]
        self.arguments = ["-m", *own, *SMALL, f"dataset.root={toy_root}", *([f"tracking.uri={uri}"] if uri else [])]

    def start(self, *more: str) -> Process:
        return start_command([*self.arguments, *more], cwd=self.folder, fresh=True, start_new_session=True)

    def run(self, *more: str) -> tuple[int | None, str, str]:
        """Return the exit code and both outputs of a whole sweep."""
        process = self.start(*more)
        try:
            output, errors = process.communicate(timeout=300)
        finally:
            process.kill()
        assert "Traceback" not in output + errors
        return process.returncode, output, errors

    def runs(self) -> list[MlflowRun]:
        client = MlflowClient(self._uri)
        return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))

    def finished(self) -> Counter[str]:
        """Return how often each run key is finished."""
        return Counter(run.data.tags["harness.run_key"] for run in self.runs() if run.info.status == FINISHED)

    def wait_for_training(self, process: Process, number: int) -> None:
        """Wait until so many runs have epochs behind them at the same time."""
        until = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.5)
            if self._uri.startswith("http") or (self.folder / "runs" / "mlflow.db").exists():
                training = [run for run in self.runs() if "train/loss" in run.data.metrics]
                if sum(run.info.status == RUNNING for run in training) >= number:
                    return
        process.kill()
        raise AssertionError(process.communicate())

    def at_work(self) -> list[int]:
        """Return the processes in this folder that have torch in memory: the sweep itself never has."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (place / "cwd").resolve() == self.folder and "libtorch" in (place / "maps").read_text():
                    found.append(int(place.name))
        return sorted(found)

    def wait_until_none_is_at_work(self) -> None:
        """Give processes that have told their result the time to leave."""
        until = time.monotonic() + 60
        while self.at_work():
            assert time.monotonic() < until
            time.sleep(0.2)


@pytest.fixture(scope="module", params=list(LAUNCHERS))
def sweeps(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, toy_root: Path
) -> Iterator[Sweeps]:
    folder = tmp_path_factory.mktemp(request.param).resolve()
    with ExitStack() as stack:
        uri = None
        if request.param == "slurm_cluster":
            if not shutil.which("sbatch"):
                pytest.skip("this machine has no Slurm")
            place = tmp_path_factory.mktemp("server")
            uri = stack.enter_context(tracking_server(place, f"sqlite:///{place}/server.db", workers=1))
        yield Sweeps(folder, request.param, toy_root, uri)


@pytest.mark.cluster
def test_failing_cells_do_not_stop_the_others(sweeps: Sweeps) -> None:
    code, output, errors = sweeps.run("method=padim,nope", "seed=0,1")
    assert code == 1, output + errors
    assert "4 runs: 2 computed now, 2 failed." in output
    assert errors.count(" finished  test/image_auroc") == 2
    assert errors.count("method=nope") >= 2
    runs = sweeps.runs()
    assert {run.info.status for run in runs} == {FINISHED}
    assert {run.data.tags["harness.jobs"] for run in runs} == {"2"}
    assert not any(key.startswith(("launcher", "hydra")) for run in runs for key in run.data.params)
    sweeps.wait_until_none_is_at_work()


@pytest.mark.cluster
def test_the_numbers_are_those_of_a_single_run(sweeps: Sweeps, toy_root: Path, tmp_path: Path) -> None:
    overrides = ["method=padim", *SMALL, f"tracking.directory={tmp_path}", f"dataset.root={toy_root}"]
    single = execute(compose(overrides))
    (found,) = (run for run in sweeps.runs() if run.data.tags["harness.run_key"] == single.run_key)
    accuracy = {name: value for name, value in single.metrics.items() if name.startswith(("test/", "oracle/"))}
    assert accuracy.items() <= found.data.metrics.items()


@pytest.mark.cluster
def test_the_same_command_launches_nothing_again(sweeps: Sweeps) -> None:
    before = len(sweeps.runs())
    code, output, errors = sweeps.run("method=padim,nope", "seed=0,1")
    assert code == 1, output + errors
    assert "4 runs: 2 skipped (finished before), 2 failed." in output
    assert "finished" not in errors
    assert len(sweeps.runs()) == before
    assert not (sweeps.folder / "runs" / "submitit").exists()


@pytest.mark.cluster
def test_a_killed_process_costs_its_own_run_only(sweeps: Sweeps) -> None:
    cells = [*LONG, "method.epochs=150", "seed=0,1,2"]
    process = sweeps.start(*cells)
    sweeps.wait_for_training(process, 2)
    os.kill(sweeps.at_work()[0], signal.SIGKILL)
    output, errors = process.communicate(timeout=300)
    assert "Traceback" not in output + errors
    if sweeps.launcher in ("joblib", "ray"):
        assert process.returncode == 0, output + errors
        assert "3 runs: 3 computed now." in output
    else:
        assert process.returncode == 1, output + errors
        assert "3 runs: 2 computed now, 1 failed." in output
        assert "ended without a result" in errors
        code, output, errors = sweeps.run(*cells)
        assert code == 0, output + errors
        assert "3 runs: 1 computed now, 2 skipped (finished before)." in output
    assert len(sweeps.finished()) == 5
    assert set(sweeps.finished().values()) == {1}


@pytest.mark.cluster
def test_ctrl_c_ends_what_is_at_work(sweeps: Sweeps) -> None:
    process = sweeps.start(*LONG, "method.epochs=4000", "seed=3,4,5")
    sweeps.wait_for_training(process, 2)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 130, output + errors
    assert "Interrupted. 3 runs: 3 not started." in output
    assert "Traceback" not in output + errors
    sweeps.wait_until_none_is_at_work()
    interrupted = [run for run in sweeps.runs() if run.data.params.get("method.epochs") == "4000"]
    assert Counter(run.info.status for run in interrupted) == {FAILED: 2}


@pytest.mark.cluster
def test_a_process_that_is_told_to_stop_does_not_stop_the_sweep(tmp_path: Path, toy_root: Path) -> None:
    """joblib hands on what a process raises, and an interrupt of one would be the sweep's."""
    sweeps = Sweeps(tmp_path.resolve(), "joblib", toy_root, None)
    process = sweeps.start(*LONG, "method.epochs=150", "seed=0,1,2")
    sweeps.wait_for_training(process, 2)
    os.kill(sweeps.at_work()[0], signal.SIGTERM)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    assert "3 runs: 3 computed now." in output
    assert "Traceback" not in output + errors
    assert set(sweeps.finished().values()) == {1}
    assert Counter(run.info.status for run in sweeps.runs()) == {FINISHED: 3, FAILED: 1}  # no other was stopped


def test_an_interrupted_pool_lets_every_process_tell(tmp_path: Path) -> None:
    """joblib ends all processes at once when one of them ends itself."""
    code = """
import os, sys, time
from pathlib import Path
from harness.grid import Cell
from harness.launchers.joblib_pool import JoblibPool

def work(cells):
    place = Path(sys.argv[1]) / cells[0].overrides[0]
    place.with_suffix(".begun").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(float(cells[0].overrides[1]))
        place.with_suffix(".told").touch()
        raise

class Away:
    def __call__(self, cells):
        from harness import interruption
        interruption.interrupt_once()
        return work(cells)

cells = [Cell(("quick", "0")), Cell(("slow", "3"))]
with JoblibPool(2, Away()) as pool:
    import threading
    def stop():
        while len(list(Path(sys.argv[1]).glob("*.begun"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), 2)
    threading.Thread(target=stop, daemon=True).start()
    list(pool.run(cells))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert "KeyboardInterrupt" in done.stderr
    assert {path.name for path in tmp_path.glob("*.told")} == {"quick.told", "slow.told"}, done.stderr


@pytest.mark.cluster
def test_ctrl_c_reaches_what_a_shell_has_started(tmp_path: Path, toy_root: Path) -> None:
    """With commands of its own before it, a job is a shell's child, which submitit does not know."""
    sweeps = Sweeps(tmp_path.resolve(), "slurm", toy_root, None)
    process = sweeps.start(*LONG, "method.epochs=4000", "seed=0,1", 'launcher.setup=["export NOTHING=1"]')
    sweeps.wait_for_training(process, 2)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 130, output + errors
    assert not sweeps.at_work()
    assert Counter(run.info.status for run in sweeps.runs()) == {FAILED: 2}


@pytest.mark.cluster
@pytest.mark.parametrize("launcher", HYDRAS)
def test_hydras_own_launchers_serve_too(launcher: str, tmp_path: Path, toy_root: Path) -> None:
    sweeps = Sweeps(tmp_path.resolve(), launcher, toy_root, None)
    cells = ["method=padim,nope", "seed=0,1"]
    code, output, errors = sweeps.run(*cells)
    assert code == 1, output + errors
    assert "4 runs: 2 computed now, 2 failed." in output
    code, output, errors = sweeps.run(*cells)
    assert code == 1, output + errors
    assert "4 runs: 2 skipped (finished before), 2 failed." in output


@pytest.mark.cluster
def test_a_run_of_another_process_is_waited_for(tmp_path: Path, toy_root: Path) -> None:
    sweeps = Sweeps(tmp_path.resolve(), "slurm", toy_root, None)
    key = identify(compose(["method=padim", *SMALL, f"dataset.root={toy_root}", "seed=0"])).key
    store = Store(f"sqlite:///{tmp_path}/runs/mlflow.db", tmp_path / "runs")
    with store.claim(key):  # this process works on it
        process = sweeps.start("method=padim", "seed=0,1")
        while not sweeps.finished() and process.poll() is None:
            time.sleep(0.5)
        time.sleep(10)  # for the other job, should it be slower
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    assert "Waiting for 1 run that other processes work on." in errors
    assert "2 runs: 2 computed now." in output
    assert set(sweeps.finished().values()) == {1}


@pytest.mark.parametrize(
    "overrides",
    [
        ["launcher=slurm", "launcher.partitoin=gpu"],
        ["launcher=local", "launcher.partition=gpu"],
        ["launcher=ray", "launcher.minutes=5"],
        ["launcher=slurm", "launcher.minutes=long"],
    ],
)
def test_a_setting_that_a_launcher_has_not_is_an_error(overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=overrides[1].partition("=")[0]):
        compose(overrides)


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_package_is_told_with_the_command(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ConfigError) as caught:
        launcher_of(compose([f"launcher={name}"]), 2, None)  # type: ignore[arg-type]
    assert str(caught.value) == f"launcher={name} needs its package: pip install -c constraints.txt '.[{name}]'"


def test_slurm_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    launcher = compose(["launcher=slurm"]).launcher
    assert executor_of(launcher) == "local"
    (tmp_path / "sbatch").touch(mode=0o755)
    assert executor_of(launcher) == "slurm"
    assert executor_of(compose(["launcher=slurm", "launcher.executor=local"]).launcher) == "local"


def test_jobs_are_runs_at_once_and_a_cluster_takes_all() -> None:
    assert jobs_of(compose(["launcher=slurm", "launcher.executor=slurm"]), 500) == 500
    assert jobs_of(compose(["launcher=ray", "launcher.address=auto"]), 500) == 500
    for local in (["launcher=local"], ["launcher=joblib"], ["launcher=ray"], LAUNCHERS["slurm"]):
        assert jobs_of(compose([*local, "launcher.jobs=null"]), 500) <= (os.cpu_count() or 1)
        assert jobs_of(compose([*local, "launcher.jobs=4"]), 3) == 3


def test_several_hosts_need_a_tracking_server() -> None:
    with pytest.raises(ConfigError, match=r"tracking server .* tracking\.uri=http://"):
        stores.refuse_local_store("sqlite:///runs/mlflow.db", "Slurm's jobs run on other hosts")
    stores.refuse_local_store("http://localhost:5000", "Slurm's jobs run on other hosts")


def test_a_database_on_a_network_file_system_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "30 22 0:50 / /home rw - nfs4 server:/home rw\n"
        "31 30 0:51 / /home/my\\040data rw shared:7 - tmpfs tmpfs rw\n"
    )
    assert stores.file_system(Path("/var/runs"), mounts) == "ext4"
    assert stores.file_system(Path("/homes/me"), mounts) == "ext4"
    assert stores.file_system(Path("/home/me/runs/mlflow.db"), mounts) == "nfs4"
    assert stores.file_system(Path("/home/my data/runs"), mounts) == "tmpfs"
    assert stores.file_system(Path("/home"), tmp_path / "nothing") is None
    assert stores.warning_of(f"sqlite:///{tmp_path}/mlflow.db") is None
    monkeypatch.setattr(stores, "_MOUNTS", mounts)
    assert "nfs4" in str(stores.warning_of("sqlite:////home/me/runs/mlflow.db"))
    assert stores.warning_of("http://localhost:5000") is None


def test_a_mount_point_may_have_any_name(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("36 25 0:32 / /mnt/Größe\\040zwei rw - nfs4 server:/data rw\n", encoding="utf-8")
    assert stores.file_system(Path("/mnt/Größe zwei/runs"), table) == "nfs4"


def test_a_store_that_does_not_answer_costs_only_the_cells_that_ask_it() -> None:
    """What a dead process had finished is looked up: that this fails ends no other run."""
    asked: list[Cell] = []

    def find(cell: Cell) -> Outcome | None:
        asked.append(cell)
        raise TrackingError("no server answers there")

    cell, failed = Cell(("seed=0",)), Outcome("failed", reason="It died.")
    assert found_instead(find, cell, failed) == failed
    assert asked == [cell]
    assert found_instead(lambda cell: Outcome("skipped", seed=0), cell, failed) == Outcome("finished", seed=0)


def test_a_cell_that_cannot_even_be_looked_up_fails_alone(tmp_path: Path) -> None:
    class Runner:
        def finished(self, cell: Cell) -> Outcome | None:
            if "seed=0" in cell.overrides:
                raise PermissionError(13, "Permission denied", str(tmp_path))
            return None

    cells = [Cell((f"seed={seed}",)) for seed in (0, 1)]
    run = what_is_left(Runner(), lambda rest: ((cell, Outcome("finished")) for cell in rest))  # type: ignore[arg-type]
    outcomes = dict(run(cells))
    assert [outcomes[cell].status for cell in cells] == ["failed", "finished"]
    assert str(tmp_path) in outcomes[cells[0]].reason


def test_a_host_that_is_not_like_the_sweeps_says_so(tmp_path: Path) -> None:
    cells = [Cell(("seed=0",)), Cell(("seed=1",))]
    lost = Away(b"", 2, str(tmp_path / "gone"), "1.0")(cells)
    assert [outcome.status for outcome in lost] == ["failed", "failed"]
    assert str(tmp_path / "gone") in lost[0].reason
    assert socket.gethostname() in lost[0].reason
    (older, _) = Away(b"", 2, os.getcwd(), "0.0.1")(cells)
    assert "0.0.1" in older.reason

"""`launcher=local` on the real command line: interrupted, robbed of a worker, and the same in the end as run by run."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from commands import Run, command, environment
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from processes import descendants, outliving

from harness.runs.execute import execute
from harness.schema import compose

SMALL = ["preprocess.size=32", "metrics.heatmaps=0", "method.epochs=12"]
CELLS = ["bolted_plate", "granite_tile"]
# The experiment chooses the launcher, and one of its cells is illegal.
EXPERIMENT = """# @package _global_
defaults:
  - override /launcher: local
launcher: {jobs: 2}
experiment: both
grids:
  - {method: [nope]}
  - {method: [radl], category: [bolted_plate, granite_tile]}
"""


class Sweep:
    """A folder in which a grid runs on two workers."""

    def __init__(self, folder: Path, toy_root: Path) -> None:
        self.folder, self._toy_root = folder, toy_root
        (folder / "own" / "experiment").mkdir(parents=True)
        (folder / "own" / "experiment" / "both.yaml").write_text(EXPERIMENT)

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start the sweep as a process group of its own, as a shell does."""
        arguments = ["--config-dir=own", "-m", "experiment=both", *SMALL, f"dataset.root={self._toy_root}", *more]
        return subprocess.Popen(
            command(arguments), cwd=self.folder, env=environment(), start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for_training(self, process: subprocess.Popen[str], number: int) -> None:
        """Wait until so many runs have epochs behind them at the same time."""
        while process.poll() is None:
            time.sleep(0.1)
            if (self.folder / "runs" / "mlflow.db").exists():
                with contextlib.suppress(sqlite3.Error), sqlite3.connect(self.folder / "runs" / "mlflow.db") as store:
                    query = "SELECT COUNT(DISTINCT run_uuid) FROM runs NATURAL JOIN metrics WHERE status = 'RUNNING'"
                    if store.execute(query).fetchone()[0] >= number:
                        return
        raise AssertionError(process.communicate())

    def runs(self) -> list[MlflowRun]:
        client = MlflowClient(f"sqlite:///{self.folder}/runs/mlflow.db")
        return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def workers(pid: int) -> list[int]:
    return sorted(p for p in descendants(pid) if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text())


def numbers(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "speed/", "memory/"))}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, toy_root: Path) -> Sweep:
    return Sweep(tmp_path_factory.mktemp("local"), toy_root)


def test_ctrl_c_stops_the_workers(sweep: Sweep) -> None:
    process = sweep.start("method.epochs=500", "trainer=default")
    sweep.wait_for_training(process, 2)
    below = descendants(process.pid)
    assert len(workers(process.pid)) == 2
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()  # the sweep itself needs none
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert "Interrupted. 3 runs: " in output
    assert "not started" in output
    assert "Traceback" not in output + errors
    assert not outliving(below, 5)
    runs = sweep.runs()
    assert "FAILED" in {run.info.status for run in runs}
    assert not any("harness.finished" in run.data.tags for run in runs if run.info.status != "FINISHED")


def test_killed_workers_cost_their_runs_a_second_try(sweep: Sweep) -> None:
    before = Counter(run.info.status for run in sweep.runs())
    process = sweep.start()
    sweep.wait_for_training(process, 1)
    for worker in workers(process.pid):
        os.kill(worker, signal.SIGKILL)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1, output + errors  # for the illegal cell
    assert "3 runs: 2 computed now, 1 failed." in output
    assert "method=nope" in output
    assert "lost the worker process" in errors
    assert errors.count("failed: ") == 1
    assert "Traceback" not in output + errors
    after = Counter(run.info.status for run in sweep.runs())
    assert after["FINISHED"] == 2
    assert after["KILLED"] > before["KILLED"]
    assert after["RUNNING"] == before["RUNNING"]


def test_the_numbers_are_those_of_single_runs(sweep: Sweep, toy_root: Path, tmp_path: Path) -> None:
    found = {run.data.tags["harness.run_key"]: run for run in sweep.runs() if run.info.status == "FINISHED"}
    place = [f"tracking.directory={tmp_path}", f"dataset.root={toy_root}"]
    for category in CELLS:
        single = execute(compose([f"category={category}", *SMALL, *place]))
        assert single.status == "finished", single.reason
        assert numbers(found[single.run_key].data.metrics) == numbers(dict(single.metrics))


def test_no_run_and_no_report_knows_of_the_launcher(sweep: Sweep) -> None:
    assert not any(key.startswith("launcher") for run in sweep.runs() for key in run.data.params)


def test_hydras_joblib_launcher_serves_too(sweep: Sweep) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    number = len(sweep.runs())
    joblib = ["launcher=serial", "launcher.jobs=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    output, errors = sweep.start(*joblib).communicate(timeout=300)
    assert "3 runs: 2 skipped (finished before), 1 failed." in output, output + errors
    assert "launcher" not in output.partition("Write the report")[2]
    assert len(sweep.runs()) == number


@pytest.mark.parametrize(
    ("arguments", "culprits"),
    [
        (["-m", "launcher=serial,local"], ("launcher=serial,local", "one launcher")),
        (["-m", "launcher=nope"], ("launcher=nope", "joblib, local, ray, serial, slurm")),
        (["-m", "launcher=local", "launcher.jobs=2", "timing=true", "seed=0,1"], ("timing=true",)),
        (["-m", "launcher=joblib", "launcher.jobs=2", "timing=true", "seed=0,1"], ("timing=true",)),
        (["-m", "launcher=joblib", "hydra/launcher=joblib", "seed=0,1"], ("hydra/launcher",)),
        (["-m", "launcher.name=nope", "seed=0,1"], ("launcher.name=nope", "choose one of serial")),
        (["-m", "launcher=local", "trainer.threads=0", "seed=0,1"], ("trainer.threads=0", "at least 1")),
        (["-m", "launcher=local", "seed=range(8"], ("seed=range(8", "cannot be read", "key=value")),
    ],
)
def test_a_mistake_in_the_launcher_is_one_sentence(run: Run, arguments: list[str], culprits: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert all(culprit in done.stderr for culprit in culprits), done.stderr
    assert len(done.stderr.splitlines()) == 1

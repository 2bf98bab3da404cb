"""A grid survives whatever kills it: no finished run is lost, none is doubled."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from conftest import command, environment
from mlflow import MlflowClient

ARGUMENTS = ["-m", "method=radl,padim", "seed=0,1,2", "preprocess.size=32", "method.epochs=2", "metrics.heatmaps=0"]
CELLS = 6


def start(folder: Path, toy_root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command([*ARGUMENTS, f"dataset.root={toy_root}"]),
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def statuses(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how many MLflow runs have each status, and how many finished ones each run key."""
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert all(run.data.tags["harness.finished"] == "true" for run in finished)
    return Counter(run.info.status for run in runs), Counter(run.data.tags["harness.run_key"] for run in finished)


def test_a_sweep_killed_at_random_moments_completes_without_doubles(tmp_path: Path, toy_root: Path) -> None:
    moments = random.Random(7)
    for _ in range(4):
        process = start(tmp_path, toy_root)
        database = tmp_path / "runs" / "mlflow.db"
        while process.poll() is None and not database.exists():
            time.sleep(0.1)
        time.sleep(moments.uniform(1.0, 14.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start(tmp_path, toy_root)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    by_status, by_key = statuses(tmp_path)
    assert by_key == Counter(dict.fromkeys(by_key, 1))
    assert len(by_key) == CELLS
    assert by_status["RUNNING"] == by_status["FAILED"] == 0


def test_two_sweeps_of_one_grid_at_once_share_the_work(tmp_path: Path, toy_root: Path) -> None:
    processes = [start(tmp_path, toy_root) for _ in range(2)]
    outputs = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    by_status, by_key = statuses(tmp_path)
    assert by_status == Counter(FINISHED=CELLS)
    assert by_key == Counter(dict.fromkeys(by_key, 1))
    assert all(f"{CELLS} runs" in output for output in outputs)

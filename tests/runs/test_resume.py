"""A grid survives whatever kills it: no finished run is lost, none is doubled. `nox -s chaos` kills more often."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

from commands import Process, start_command
from mlflow import MlflowClient

SMALL = ["preprocess.size=32", "metrics.heatmaps=0"]
GRID = ["method=radl,padim", "seed=0,1,2", "method.epochs=2"]
CELLS = 6


def start(folder: Path, toy_root: Path, *more: str, fresh: bool = False) -> Process:
    given = ["-m", *SMALL, *(more or GRID), f"dataset.root={toy_root}"]
    return start_command(given, cwd=folder, fresh=fresh, merged=True)


def statuses(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how many MLflow runs have each status, and how many finished ones each run key."""
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert all(run.data.tags["harness.finished"] == "true" for run in finished)
    return Counter(run.info.status for run in runs), Counter(run.data.tags["harness.run_key"] for run in finished)


def test_a_sweep_killed_at_random_moments_completes_without_doubles(tmp_path: Path, toy_root: Path) -> None:
    moments = random.Random(7)
    for _ in range(3):
        process = start(tmp_path, toy_root)
        database = tmp_path / "runs" / "mlflow.db"
        while process.poll() is None and not database.exists():
            time.sleep(0.1)
        time.sleep(moments.uniform(0.5, 6.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start(tmp_path, toy_root, fresh=True)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    by_status, by_key = statuses(tmp_path)
    assert by_key == Counter(dict.fromkeys(by_key, 1))
    assert len(by_key) == CELLS
    assert by_status["RUNNING"] == by_status["FAILED"] == 0


def test_an_interrupted_sweep_says_what_it_has_and_goes_on_later(tmp_path: Path, toy_root: Path) -> None:
    process = start(tmp_path, toy_root, "method=radl", "seed=0,1", "method.epochs=500", "trainer=default", fresh=True)
    wait_for_epochs(tmp_path, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Interrupted." in output
    by_status, by_key = statuses(tmp_path)
    assert by_status == Counter(FAILED=1)
    assert not by_key


def wait_for_epochs(folder: Path, process: Process) -> None:
    """Wait until the first epochs of a run are in the store."""
    while process.poll() is None:
        time.sleep(0.5)
        if (folder / "runs" / "mlflow.db").exists():
            with contextlib.suppress(sqlite3.Error):
                connection = sqlite3.connect(folder / "runs" / "mlflow.db")
                if connection.execute("SELECT COUNT(*) FROM metrics WHERE key = 'train/loss'").fetchone()[0]:
                    return


def test_two_sweeps_of_one_grid_at_once_share_the_work(tmp_path: Path, toy_root: Path) -> None:
    processes = [start(tmp_path, toy_root, fresh=fresh) for fresh in (True, False)]
    outputs = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    by_status, by_key = statuses(tmp_path)
    assert by_status == Counter(FINISHED=CELLS)
    assert by_key == Counter(dict.fromkeys(by_key, 1))
    assert all(f"{CELLS} runs" in output for output in outputs)

"""dry=true: what would run, what is finished, what it would cost; and nothing is run or made."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Run
from mlflow import MlflowClient

from harness.data.download import FETCHERS
from harness.plan import duration, show_single
from harness.schema import compose

SMALL = ["preprocess.size=32", "trainer.max_epochs=2", "category=granite_tile"]


def test_durations_read_as_people_say_them() -> None:
    said = [duration(seconds) for seconds in (0.4, 45, 89.9, 91, 3600, 12_000, 200_000)]
    assert said == ["0 s", "45 s", "90 s", "2 min", "60 min", "3 h 20 min", "2 d 7 h"]


def test_a_plan_counts_estimates_and_runs_nothing(run: Run, tmp_path: Path) -> None:
    empty = run("-m", "method=radl,radl_b", "method.fdfa=false", "seed=range(3)", "dry=true", *SMALL)
    assert empty.returncode == 0
    assert "6 cells: 0 runs finished, 3 to run, 3 the same as another." in empty.stdout
    assert "No ground to estimate 3 runs" in empty.stdout
    assert not (tmp_path / "runs").exists()

    assert run("-m", "method=padim,nope", "seed=range(2)", *SMALL).returncode == 1
    plan = run("-m", "method=radl,padim,nope", "seed=range(3)", "dry=true", "launcher=local", "launcher.jobs=2", *SMALL)
    assert plan.returncode == 1
    assert "9 cells: 2 runs finished, 4 to run, 3 cannot be run." in plan.stdout
    assert "Estimate for 1 of the 4:" in plan.stdout and "with 2 at once" in plan.stdout
    assert "2 runs" in next(line for line in plan.stdout.splitlines() if "padim" in line)
    assert "no ground" in next(line for line in plan.stdout.splitlines() if "radl" in line)
    assert "3 cannot be run: " in plan.stderr and "method=nope" in plan.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) == 2
    one = run("method=padim", "seed=7", "dry=true", *SMALL)
    assert one.returncode == 0 and "1 to run" in one.stdout


def test_a_plan_of_nothing_that_can_be_run_runs_nothing(run: Run) -> None:
    plan = run("-m", "method=nope", "dry=true")
    assert plan.returncode == 1
    assert "1 cell: 0 runs finished, 0 to run, 1 cannot be run." in plan.stdout


def test_a_plan_downloads_nothing_and_says_what_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(*_: object) -> None:
        raise AssertionError("the plan has downloaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(FETCHERS, "autovi", fetch)
    wanted = ["dataset=autovi", "dataset.download=true", "category=pipe_clip", "method=padim", "backbone=toy"]
    assert show_single(compose(wanted)) == 0
    shown = capsys.readouterr().out
    assert "1 cell: 0 runs finished, 1 to run." in shown
    assert "No estimate for 1 run. The images of autovi will be downloaded into datasets/autovi by" in shown
    assert show_single(compose(["method=padim"])) == 0
    assert "No ground to estimate 1 run: the store has none" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())

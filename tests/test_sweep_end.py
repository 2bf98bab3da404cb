"""The end of a sweep: settings apart, every run once, commands that work."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from omegaconf import OmegaConf

from harness.grid import Cell
from harness.runs.outcome import Outcome
from harness.summary import conclude


def result(method: str, seed: int, value: float, key: str | None = None, **more: Any) -> tuple[Cell, Outcome]:
    overrides = (*more.pop("overrides", ()), f"method={method}", f"seed={seed}")
    key = key or f"{method}{seed}{overrides}"
    metrics = {"test/image_auroc": value}
    return Cell(overrides), Outcome("finished", "radl", "toy", "tile", seed, key, "id", metrics, **more)


def shown(capsys: pytest.CaptureFixture[str], results: Any, directory: str = "runs", uri: str | None = None) -> str:
    tracking = OmegaConf.create({"directory": directory, "uri": uri or f"sqlite:///{directory}/mlflow.db"})
    conclude(results, tracking, ["experiment=mine", "dataset=folder", "tracking.directory=x"], interrupted=False)
    return capsys.readouterr().out


def test_settings_of_one_method_have_rows_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, [result("radl", 0, 0.9), result("radl", 1, 0.8), result("radl_a", 0, 0.5)])
    assert "85.00 ± 7.07 (2)" in out
    assert "50.00 (1)" in out


def test_swept_settings_are_in_the_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [result("radl", s, v, overrides=(f"method.tau={t}",)) for s, v, t in [(0, 0.9, 1), (0, 0.7, 0.5)]]
    out = shown(capsys, rows)
    assert "radl method.tau=1" in out
    assert "radl method.tau=0.5" in out


def test_a_run_that_two_cells_ask_for_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, [result("radl", 0, 0.9, "k"), result("radl", 0, 0.9, "k", overrides=("experiment=b",))])
    assert "90.00 (1)" in out


def test_the_next_commands_name_the_store_and_the_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, [result("radl", 0, 0.9)], directory="elsewhere")
    assert "mlflow ui --backend-store-uri sqlite:///elsewhere/mlflow.db" in out
    assert "python -m harness.report experiment=mine dataset=folder tracking.directory=elsewhere" in out
    out = shown(capsys, [result("radl", 0, 0.9)], uri="http://me:secret@host:5000")
    assert "Look at the runs:  http://***@host:5000" in out
    assert "secret" not in out


def test_the_next_commands_can_be_pasted_where_a_folder_has_a_space(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, [result("radl", 0, 0.9)], directory="line 7")
    commands = [shlex.split(line.partition(":  ")[2]) for line in out.splitlines()[-2:]]
    assert commands[0] == ["mlflow", "ui", "--backend-store-uri", "sqlite:///line 7/mlflow.db"]
    assert commands[1][-1] == "tracking.directory=line 7"


@pytest.mark.parametrize(
    ("folds", "seeds", "said"),
    [
        ((None,), (0, 1), "(number of seeds)"),
        (("0",), (0, 1), "(number of seeds)"),
        (("0", "1", "2"), (0,), "(number of folds)"),
        (("0", "1", "2"), (0, 1), "(number of runs: seeds × folds)"),
    ],
)
def test_the_caption_says_what_is_counted(
    capsys: pytest.CaptureFixture[str], folds: tuple[str | None, ...], seeds: tuple[int, ...], said: str
) -> None:
    cells = [((f"protocol.fold={f}",) if f else (), s) for f in folds for s in seeds]
    out = shown(capsys, [result("radl", seed, 0.9, overrides=fold) for fold, seed in cells])
    assert said in out
    assert f"90.00 ± 0.00 ({len(cells)})" in out


def test_one_run_is_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\n1 run: 1 computed now.\n" in shown(capsys, [result("radl", 0, 0.9)])


def test_failures_are_listed_by_reason_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    failed = [(Cell(("method=x", f"seed={seed}")), Outcome("failed", reason="No such [method].")) for seed in (0, 1)]
    with pytest.raises(SystemExit) as caught:
        shown(capsys, [*failed, result("radl", 0, 0.9)])
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert out.count("No such [method].") == 1
    assert "3 runs: 1 computed now, 2 failed." in out

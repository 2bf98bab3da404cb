"""The command line: help at once, mistakes as one sentence, a single run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import Run, environment


def test_help_needs_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys, harness.command, harness.report.__main__, harness.data.__main__; "
        "print([m for m in ('torch', 'mlflow', 'anomalib', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_lists_the_choices(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("method: "))
    assert {"anomalib", "auto_classifier", "padim", "radl"} <= set(line.removeprefix("method: ").split(", "))


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["seed=range(8)"], "add -m"),
        (["experiment=toy"], "add -m"),
        (["method=nope"], "method=nope"),
        (["method.taau=1"], "method.taau"),
        (["category=nope"], "nope"),
        (["-m", "experiment=nope"], "experiment=nope"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(run: Run, arguments: list[str], culprit: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert culprit in done.stderr
    assert "Traceback" not in done.stderr


def test_one_run_says_what_became_of_it(run: Run) -> None:
    small = ["method=padim", "preprocess.size=64", "metrics.heatmaps=0"]
    first, second = run(*small), run(*small)
    assert first.returncode == second.returncode == 0, first.stderr
    assert "padim/toy/bolted_plate/0 finished  test/image_auroc" in first.stdout
    assert "skipped: finished before" in second.stdout
    assert first.stdout.partition("test/")[2] == second.stdout.partition("test/")[2]


def test_an_own_configuration_folder_adds_experiments(run: Run, tmp_path: Path, toy_root: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "line7.yaml").write_text(
        "# @package _global_\nexperiment: line7\ngrids:\n  - method: [padim]\n    seed: range(2)\n"
    )
    small = ["preprocess.size=32", "metrics.heatmaps=0"]
    assert "add -m" in run("--config-dir", "mine", "experiment=line7", *small).stderr
    done = run("--config-dir", "mine", "-m", "experiment=line7", *small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs: 2 computed now." in done.stdout
    assert "python -m harness.report --config-dir=mine experiment=line7" in done.stdout
    own = [argument for argument in small if argument.startswith("preprocess")]
    reported = run("--config-dir=mine", "experiment=line7", *own, f"dataset.root={toy_root}", module="harness.report")
    assert reported.returncode == 0, reported.stderr
    assert "Warning" not in (tmp_path / "reports" / "line7" / "report.md").read_text()
    narrower = run("--config-dir=mine", "experiment=line7", "seed=0,1,2", *own, f"dataset.root={toy_root}",
                   "strict=true", module="harness.report")  # fmt: skip
    assert narrower.returncode == 2
    assert "seed 2" in narrower.stderr
    assert (tmp_path / "reports" / "line7" / "tables" / "image_auroc.tex").is_file()


@pytest.mark.parametrize("info", [["--info"], ["--info", "defaults"]])
def test_info_takes_no_override_for_what_it_is_to_tell(run: Run, info: list[str]) -> None:
    done = run("method=padim", *info)
    assert done.returncode == 0, done.stderr
    assert "method/padim" in done.stdout + done.stderr


def test_what_one_command_asks_of_hydra_is_not_the_next_ones_wish(tmp_path: Path) -> None:
    """Hydra gives its errors to us by the same variable by which users want tracebacks."""
    code = (
        "import os; from harness.command import run; from harness.entry import call; "
        "[call(run, 'harness', ['seed=abc']) for _ in range(2)]; print('HYDRA_FULL_ERROR' in os.environ)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False\n", done.stderr
    assert len(done.stderr.splitlines()) == 2 and "Traceback" not in done.stderr

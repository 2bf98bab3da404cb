"""Help at once: every command prints it before anything is imported that takes time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Run, command, environment, run_command

from harness.choices import CONF_DIR
from harness.completion import MODULES, completions

SLACK = 3.5  # times what it takes to import Hydra alone: far below a second on an idle machine


def processor_seconds(argv: list[str]) -> float:
    """Return the processor time that a command takes, the least of three: others may be using the machine."""
    seconds = []
    for _ in range(3):
        process = subprocess.Popen(argv, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        errors = process.stderr.read()
        process.stderr.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, errors.decode()
        seconds.append(used.ru_utime + used.ru_stime)
    return min(seconds)


@pytest.fixture(scope="module")
def limit() -> float:
    return SLACK * processor_seconds([sys.executable, "-c", "import hydra"])


@pytest.mark.parametrize("module", MODULES)
def test_help_comes_at_once(module: str, limit: float) -> None:
    done = subprocess.run(command(["--help"], module), env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert f"python -m {module}" in done.stdout
    assert not done.stderr
    assert processor_seconds(command(["-h"], module)) < limit


def test_a_completion_comes_at_once(limit: float) -> None:
    query = command(["query", "python -m harness method=patchcore method."], "harness.completion")
    assert processor_seconds(query) < limit / 2


def test_help_lists_every_choice_and_those_of_an_own_folder(run: Run, tmp_path: Path) -> None:
    done = run("--help")
    listed = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    for folder in (path for path in CONF_DIR.iterdir() if path.is_dir() and path.name not in ("search", "hydra")):
        assert listed[folder.name].split(", ") == sorted(path.stem for path in folder.glob("*.yaml"))
    assert "search" not in listed
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "own_one.yaml").touch()
    assert "own_one" in run("--config-dir", "mine", "--help").stdout
    for name in completions("python -m har"):
        assert name == "harness" or name.removeprefix("harness") in done.stdout


def test_hydras_own_help_goes_on_working(run: Run, tmp_path: Path) -> None:
    assert "--multirun" in run_command(["--hydra-help"], cwd=tmp_path).stdout
    shown = run("--cfg", "job", "method=padim")
    assert shown.returncode == 0 and "name: padim" in shown.stdout

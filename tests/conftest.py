"""The real command line in a folder of its own, on toy data that every test shares."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from commands import environment, run_command

# Tests that are started to ignore Ctrl-C (in the background of a script) or SIGHUP (`nohup`) have commands that do not.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Files that take minutes begin first: at the end of the queue one of them would leave the other worker idle.
LONGEST = (
    *("test_experiments.py", "test_benchmarks.py", "test_tune.py", "test_contract.py", "test_launcher.py"),
    *("test_resume.py", "test_plan.py", "test_main.py", "test_stored_runs.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data, drawn once a test process."""
    from harness.data.toy import generate

    root = tmp_path_factory.mktemp("toy")
    generate(root)
    return root


@pytest.fixture
def run(tmp_path: Path, toy_root: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m harness` (or another module of it) in an empty folder, as a user does.

    In a forked process that has its libraries already, or with `fresh=True` in a new one: commands.py tells the
    difference. `env` are variables to add.
    """

    def call(
        *arguments: str,
        module: str = "harness",
        cwd: Path = tmp_path,
        env: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        given = [*arguments, f"dataset.root={toy_root}"] if module == "harness" else list(arguments)
        return run_command(given, module, cwd=cwd, env=environment(**(env or {})), fresh=fresh)

    return call

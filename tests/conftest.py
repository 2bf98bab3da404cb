"""The real command line in a folder of its own, on toy data that every test shares."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def command(arguments: Sequence[str], module: str = "harness") -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data, drawn once a test process."""
    from harness.data.toy import generate

    root = tmp_path_factory.mktemp("toy")
    generate(root)
    return root


@pytest.fixture
def run(tmp_path: Path, toy_root: Path) -> Run:
    """Run `python -m harness` (or another module of it) in an empty folder, as a user does."""

    def call(*arguments: str, module: str = "harness", cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        given = [*arguments, f"dataset.root={toy_root}"] if module == "harness" else list(arguments)
        return subprocess.run(
            command(given, module), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600
        )

    return call

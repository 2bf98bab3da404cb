"""The benchmark of stores, on a handful of runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment

pytestmark = pytest.mark.scale

ROOT = Path(__file__).resolve().parents[2]


def test_the_suite_measures_all_stores_and_they_agree(postgresql: None, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "tracking", f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = json.loads((tmp_path / "tracking.json").read_text())["lines"]
    assert [line["baseline"] for line in lines] == ["a server on SQLite", "one SQLite file"]
    assert all(line["ours"] > 0 and line["theirs"] > 0 for line in lines)
    assert {line["agreement"] for line in lines} == {"6 runs and 1848 values in each"}
    assert "a server on SQLite" in (tmp_path / "report.md").read_text()

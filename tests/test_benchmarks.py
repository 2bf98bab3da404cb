"""The benchmark suites run: on tiny work here, by hand (`nox -s bench`) on real work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from commands import environment

ROOT = Path(__file__).resolve().parents[1]


LONG = {"seeds", "tracking"}  # start many processes, which other tests do enough


def test_suites_measure_and_are_rendered(tmp_path: Path) -> None:
    output = tmp_path / "benchmark"
    suites = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def measure(" in path.read_text()} - LONG
    command = [sys.executable, "-m", "benchmarks", "--quick", *sorted(suites), f"--output={output}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert suites == {path.stem for path in output.glob("*.json")}
    page = (output / "report.md").read_text()
    for suite in suites:
        facts = json.loads((output / f"{suite}.json").read_text())
        assert facts["lines"] and f"`{suite}`" in page
        assert all(line.get("ours", 1) > 0 and line.get("theirs", 1) > 0 for line in facts["lines"])
    metrics = json.loads((output / "metrics.json").read_text())["lines"]
    assert all(re.search(r"\d", line["agreement"]) for line in metrics)
    assert page.count("Tiny work: these are no results.") == len(suites)


def test_an_unknown_suite_is_named() -> None:
    command = [sys.executable, "-m", "benchmarks", "nope"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "nope" in done.stderr and "coreset" in done.stderr

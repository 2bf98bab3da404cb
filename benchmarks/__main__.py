"""`python -m benchmarks [--quick] [SUITE …]`: measure, write reports/benchmark/<suite>.json, render report.md."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

SUITES = {
    "grid": "PaDiM over eight seeds, against anomalib's Engine",
    "patchcore": "PatchCore over eight seeds, against anomalib's Engine",
    "seeds": "What further seeds cost",
    "training": "RADL from stored features, against computing them",
    "head": "The training step of RADL and SimpleNet on given features",
    "coreset": "PatchCore's coreset",
    "neighbours": "PatchCore's nearest neighbours",
    "padim": "PaDiM's fit and scores on given features",
    "metrics": "Pixel metrics",
    "report": "The report of ten thousand runs",
    "tracking": "Writing runs: a tracking server on PostgreSQL, against SQLite",
    "half": "What half-precision features change",
}
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run each suite in a process of its own, so that none inherits another's memory, then render what there is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="tiny work, to see that everything runs")
    parser.add_argument("--output", type=Path, default=ROOT / "reports" / "benchmark")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.suites) - set(SUITES):
        parser.error(f"there is no suite {', '.join(sorted(unknown))}; choose from {', '.join(SUITES)}")
    if given.in_process:
        _measure(given.suites[0], False, given.output)
        return 0
    failed = [suite for suite in given.suites or SUITES if _run(suite, given.quick, given.output)]
    from benchmarks.render import render

    render(given.output, SUITES)
    print(given.output / "report.md")
    for suite in failed:
        print(f"The suite {suite} failed.", file=sys.stderr)
    return 1 if failed else 0


def _run(suite: str, quick: bool, output: Path) -> int:
    """Return 0 when the suite ran; a quick one need not start a process."""
    if quick:
        _measure(suite, quick, output)
        return 0
    command = [sys.executable, "-m", "benchmarks", suite, "--in-process", f"--output={output}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"}
    return subprocess.call(command, cwd=ROOT, env=environment)


def _measure(suite: str, quick: bool, output: Path) -> None:
    """Write what a suite measured, line by line as it comes: an hour's work is not lost with its last line."""
    from harness.checkout import git_commit
    from harness.runs import environment
    from harness.runs.allocator import keep_freed_memory

    keep_freed_memory()
    output.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {
        "commit": git_commit() or "none",
        "processor": environment.processor(),
        "libraries": environment.libraries(),
        "quick": quick,
        "lines": [],
    }
    for line in importlib.import_module(f"benchmarks.{suite}").measure(quick):
        facts["lines"].append(asdict(line) | {"kind": type(line).__name__})
        (output / f"{suite}.json").write_text(json.dumps(facts, indent=1) + "\n")
        print(f"{suite}: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

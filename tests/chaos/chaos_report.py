"""The report of the fault tests: every number is one that a test counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_COLUMNS = {
    "moments": "times",
    "kills": "processes killed",
    "cells": "runs asked for",
    "before": "finished after it",
    "after": "finished in the end",
}
_HARM = ("lost", "doubled", "damaged")
_HEAD = """# Fault suite

Made by `HARNESS_CHAOS_REPORT=1 nox -s chaos` on {date}: {tests} faults, {passed} survived, in {minutes:.0f} minutes on
{system}, {cores} cores, Python {python}, {libraries}.

*Lost*: a finished run that was there before the fault and not after it. *Doubled*: a second finished run of one run
key. *Damaged*: a finished run with an epoch missing or twice there, artifacts missing or unreadable, numbers other
than those of a sweep that nobody disturbed, or an end before its beginning. They are looked at after each fault, and
again when the same command, typed once more, has run what was left: all of the runs asked for, or the test has failed.
"""


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Write `chaos.json` and `report.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chaos.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (folder / "report.md").write_text(_page(found))


def _page(found: Mapping[str, Any]) -> str:
    tests = found["tests"]
    head = _HEAD.format(
        date=found["date"],
        tests=len(tests),
        passed=sum(test["outcome"] == "passed" for test in tests),
        minutes=sum(test["seconds"] for test in tests) / 60,
        libraries=", ".join(f"{name} {version}" for name, version in found["libraries"].items()),
        **found["machine"],
    )
    lines = [head, f"| fault | outcome | {' | '.join(_COLUMNS.values())} | {' / '.join(_HARM)} |"]
    lines.append("|---|---|" + "--:|" * (len(_COLUMNS) + 1))
    lines += [_line(test) for test in tests]
    said = [(test["fault"], test["said"]) for test in tests if test.get("said")]
    lines += ["", "## What the user is told", ""] if said else []
    lines += [f"- {fault}: “{_escaped(text)}”" for fault, text in said]
    phases = [(test["fault"], test["phases"]) for test in tests if test.get("phases")]
    for fault, by_phase in phases:
        lines += ["", f"## Where the kills fell: {fault}", "", "| what the sweep was doing | kills |", "|---|--:|"]
        lines += [f"| {phase} | {number} |" for phase, number in by_phase.items()]
    return "\n".join(lines) + "\n"


def _line(test: Mapping[str, Any]) -> str:
    cells = [str(test.get(key, "–")) for key in _COLUMNS]
    harm = " / ".join(str(test[key]) for key in _HARM) if "lost" in test else "–"
    outcome = test["outcome"] + (f": {test['why']}" if test.get("why") else "")
    return " | ".join(["| " + _escaped(test["fault"]), outcome, *cells, harm, ""]).rstrip()


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""reports/benchmark/report.md from what the suites wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INTRODUCTION = """# Speed

Each line is the same work done twice in one process, by the harness and by what it is compared with; the ratio says
how many times faster the harness is, and the agreement was measured on the two results. Seconds are of one core and
of this machine; ratios travel better. A ratio with ≥ rests on a lower bound of what the other would have taken. The
target is what the project asked for. Made by `nox -s bench`.
"""


def render(folder: Path, titles: Mapping[str, str]) -> None:
    """Write report.md for all suites that have been measured."""
    parts = [INTRODUCTION]
    for suite, title in titles.items():
        path = folder / f"{suite}.json"
        if path.exists():
            facts = json.loads(path.read_text())
            parts += [f"## {title}", _table(facts["lines"]), _facts(suite, facts)]
    (folder / "report.md").write_text("\n".join(part.rstrip("\n") + "\n" for part in parts))


def _table(lines: list[dict[str, Any]]) -> str:
    effects = [line for line in lines if line["kind"] == "Effect"]
    comparisons = [line for line in lines if line["kind"] == "Comparison"]
    durations = [line for line in lines if line["kind"] == "Duration"]
    parts = []
    if comparisons:
        rows = [_comparison(line) for line in comparisons]
        header = ("work", "against", "harness", "other", "ratio", "target", "agreement", "note")
        parts.append(_markdown(header, rows))
    if effects:
        rows = [
            (e["run"], e["metric"], f"{100 * e['single']:.4f}", f"{100 * e['half']:.4f}", _points(e)) for e in effects
        ]
        parts.append(_markdown(("run", "metric", "float32 %", "float16 %", "difference"), rows))
    if durations:
        rows = [(d["work"], _seconds(d["ours"]), _limit(d), d["note"]) for d in durations]
        parts.append(_markdown(("work", "harness", "limit", "note"), rows))
    return "\n".join(parts)


def _limit(duration: dict[str, Any]) -> str:
    if duration["limit"] is None:
        return ""
    return f"{_seconds(duration['limit'])} {'✓' if duration['ours'] <= duration['limit'] else '✗'}"


def _comparison(line: dict[str, Any]) -> tuple[str, ...]:
    ratio = line["theirs"] / line["ours"]
    target = "" if line["target"] is None else f"{line['target']:g}"
    if line["target"] is not None:
        target += " ✓" if ratio >= line["target"] else " ✗"
    shown = f"{'≥ ' if line['bound'] else ''}{ratio:.{1 if ratio < 100 else 0}f}"
    return (
        line["work"], line["baseline"], _seconds(line["ours"]), _seconds(line["theirs"]), f"**{shown}**", target,
        line["agreement"], line["note"],
    )  # fmt: skip


def _points(effect: dict[str, Any]) -> str:
    return f"{100 * (effect['half'] - effect['single']):+.4f}"


def _seconds(value: float) -> str:
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _facts(suite: str, facts: dict[str, Any]) -> str:
    quick = " Tiny work: these are no results." if facts["quick"] else ""
    return f"`{suite}`: {facts['processor']}; {facts['libraries']}; commit {facts['commit'][:12]}.{quick}\n"

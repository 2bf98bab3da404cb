"""The page that leads from every table and figure of the five papers to the command that makes its like."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml
from reference import CONF, REPOSITORY, escaped, leading_comment

PUBLISHED = REPOSITORY / "harness" / "report" / "published"
OWN = REPOSITORY / "docs" / "tools" / "papers.yaml"
NOT_OF_PAPERS = ("adhoc", "methods", "toy")
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


@dataclass
class Named:
    """What an experiment's comment names of its paper."""

    paper: str
    tables: set[str] = field(default_factory=set)
    figures: set[str] = field(default_factory=set)


def papers_page() -> str:
    """Every table and figure of the papers, with the experiment that makes its like or the reason why none does."""
    lines = [
        "# Papers and experiments",
        "Read from `conf/experiment/` and `harness/report/published/`. Each experiment runs with "
        "`python -m harness -m experiment=NAME` and is reported by `python -m harness.report experiment=NAME`; "
        "with the paper's data set (`dataset=… dataset.root=…`) the report sets its numbers beside the printed ones. "
        "*Printed* is how many numbers of a table are kept as data, *here* how many of them are of methods that the "
        "harness has and compares where the runs are on the same data.",
    ]
    for number in sorted(own()["data"]):
        facts = _yaml(PUBLISHED / f"{number}.yaml")
        lines += [f"## Paper {number}: {facts['title']}", _origin(facts), own()["data"][number]]
        lines += [_tables(number, facts), _figures(number)]
    lines += ["## Experiments", *_experiments()]
    return "\n\n".join(lines) + "\n"


@lru_cache
def own() -> dict[str, Any]:
    """Return what docs/tools/papers.yaml says."""
    return _yaml(OWN)


def named_by(experiment: str) -> Named | None:
    """Return what the comment of an experiment's YAML names; None for one that is of no paper."""
    if experiment in NOT_OF_PAPERS:
        return None
    text = " ".join(leading_comment(CONF / "experiment" / f"{experiment}.yaml"))
    head = re.split(r":|\. (?=[A-Z])", text, maxsplit=1)[0]
    for name, number in own()["names"].items():
        if head.startswith(name):
            return Named(number, _numbers(head, "Table"), _numbers(head, r"Fig\.|Figure"))
    raise LookupError(f"conf/experiment/{experiment}.yaml begins with no paper of docs/tools/papers.yaml")


def experiments() -> list[str]:
    """Return the names of all experiments."""
    return sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def experiments_of(number: str, kind: str, which: str) -> list[str]:
    """Return the experiments that name a table or figure (`kind`) of a paper."""
    found = {experiment: named_by(experiment) for experiment in experiments()}
    return [e for e, named in found.items() if named and named.paper == number and which in getattr(named, kind)]


def _numbers(text: str, word: str) -> set[str]:
    """Return 3, 4 and 11 of `Tables 3, 4 and 11`; ranges are filled."""
    found: set[str] = set()
    one = r"(?:[IVX]+|\d+)\b"
    for match in re.finditer(rf"(?:{word})s? ({one}(?:(?:, and |, | and | to ){one})*)", text):
        last = None
        for joint, number in re.findall(rf"(, and |, | and | to |^)({one})", match[1]):
            found |= set(_between(last, number)) if joint == " to " and last else {number}
            last = number
    return found


def _between(first: str, last: str) -> Sequence[str]:
    if first.isdigit():
        return [str(n) for n in range(int(first), int(last) + 1)]
    return ROMAN[ROMAN.index(first) : ROMAN.index(last) + 1]


def _origin(facts: Mapping[str, Any]) -> str:
    parts = [str(facts[key]) for key in ("venue", "year") if facts.get(key)]
    return ", ".join(parts) + (f", doi {facts['doi']}" if facts.get("doi") else "") + "." if parts else ""


def _tables(number: str, facts: Mapping[str, Any]) -> str:
    printed, here = _counts(number)
    rows = ["| table | what it shows | experiment, or why there is none | printed | here |", "|---|---|---|--:|--:|"]
    for table, about in facts["tables"].items():
        where = _commands(experiments_of(number, "tables", table)) or own()["tables"][number][table]
        lost = " *Lost in the text that we have.*" if about["source"] == "missing" else ""
        counts = f"{printed.get(table, 0)} | {here.get(table, 0)}"
        rows.append(f"| {table} | {escaped(about['title'])}{lost} | {where} | {counts} |")
    return "\n".join(rows)


def _counts(number: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many numbers of each table are kept, and how many are of methods that are here."""
    methods = _yaml(PUBLISHED / "ours.yaml")[number]["methods"]
    printed: dict[str, int] = {}
    here: dict[str, int] = {}
    with (PUBLISHED / f"{number}.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            printed[row["table"]] = printed.get(row["table"], 0) + 1
            here[row["table"]] = here.get(row["table"], 0) + (row["method"] in methods)
    return printed, here


def _figures(number: str) -> str:
    rows = ["| figure | what it shows | experiment, or what a report has like it |", "|---|---|---|"]
    for figure, about in own()["figures"][number].items():
        where = _commands(experiments_of(number, "figures", figure)) or about["where"]
        rows.append(f"| {figure} | {about['title']} | {where} |")
    return "\n".join(rows)


def _commands(found: Sequence[str]) -> str:
    return ", ".join(f"[`{name}`](#{name})" for name in found)


def _experiments() -> list[str]:
    lines = []
    for name in experiments():
        path = CONF / "experiment" / f"{name}.yaml"
        body = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
        about = escaped(" ".join(leading_comment(path)))
        lines += [f"### `experiment={name}` {{ #{name} }}", about, f"```yaml\n{body.strip()}\n```"]
    return lines


def _yaml(path: Any) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded

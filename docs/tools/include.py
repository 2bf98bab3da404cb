"""What pages include, read when the site is built.

`{{readme install}}` and `{{readme run}}` are the commands of README's main job, `{{usage MODULE}}` is what
`python -m MODULE --help` prints, `{{example TITLE}}` a table of reports/example with its caption,
`{{benchmark TITLE}}` what reports/benchmark measured under that title, `{{made FILE}}` what a command wrote into
reports/, its title left out, `{{published PAPER TABLE METRIC DATASET}}` a table of a paper as the harness keeps it.
"""

from __future__ import annotations

import ast
import csv
import re
from pathlib import Path

from blocks import README, installation, main_job
from reference import REPOSITORY

EXAMPLE = REPOSITORY / "reports" / "example" / "report.md"
BENCHMARK = REPOSITORY / "reports" / "benchmark" / "report.md"
PUBLISHED = REPOSITORY / "harness" / "report" / "published"
_DIRECTIVE = re.compile(r"^\{\{(usage|example|benchmark|made|published|readme) (.+)\}\}$", re.MULTILINE)


def filled(markdown: str) -> str:
    """Return a page with everything included.

    Raises:
        LookupError: when what a page asks for is not there.
    """
    makers = {
        "usage": usage, "example": example, "benchmark": benchmark, "made": made, "published": published,
        "readme": readme,
    }  # fmt: skip
    return _DIRECTIVE.sub(lambda match: makers[match[1]](match[2]), markdown)


def readme(part: str) -> str:
    """Return the commands of README's main job: those that `install`, or those that `run`."""
    commands = {"install": installation, "run": main_job}[part](README.read_text(encoding="utf-8"))
    return _block("\n".join(commands), "bash")


def usage(module: str) -> str:
    """Return the text of `--help` as a block, from the constants of the source."""
    folder, _, name = module.partition(".")
    if not name:
        texts = _constants(REPOSITORY / folder / "usage.py")
        return _block(texts["_HEAD"].partition("\n\nChoices")[0] + "\n" + texts["_TAIL"])
    places = {"tune": "tuning"}
    options = Path(places.get(name, name)) / "options.py"
    for path in (f"{name}.py", f"{name}/__main__.py", options):
        if (file := REPOSITORY / folder / path).is_file() and "USAGE" in (texts := _constants(file)):
            return _block(texts["USAGE"])
    raise LookupError(f"{module} has no USAGE")


def _constants(path: Path) -> dict[str, str]:
    """Return the strings that a module assigns to names."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found[ast.unparse(node.targets[0])] = node.value.value
    return found


def _block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.strip()}\n```"


def example(title: str) -> str:
    """Return a table of the example report, with its caption and without its links to files."""
    table, _, caption = _section(EXAMPLE, f"### {title}").partition("\n\n")
    caption = re.sub(r" ?\[(?:LaTeX|CSV|PDF)\]\([^)]*\),?", "", caption).strip()
    return f"**{title}**\n\n{table}\n\n*{caption.replace('*', '')}*"


def benchmark(title: str) -> str:
    """Return what a suite of the benchmark measured, and on what."""
    return _section(BENCHMARK, f"## {title}")


def made(file: str) -> str:
    """Return a page of reports/ without its title; its headings are one level below the page's."""
    path = REPOSITORY / "reports" / file
    if not path.is_file():
        raise LookupError(f"there is no reports/{file}")
    _, _, text = path.read_text(encoding="utf-8").partition("\n")
    return re.sub(r"^#", "##", text, flags=re.MULTILINE).strip()


def _section(report: Path, heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    text = report.read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(heading)}\n\n(.*?)(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    if found is None:
        raise LookupError(f"{report.relative_to(REPOSITORY)} has no '{heading}'")
    return found[1].strip()


def published(arguments: str) -> str:
    """Return a table of a paper: a row a category, a column a method, mean ± deviation as printed."""
    paper, number, metric, dataset = arguments.split()
    with (PUBLISHED / f"{paper}.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["table"], row["metric"], row["dataset"]) == (number, metric, dataset)
        ]
    if not rows:
        raise LookupError(f"paper {paper} has no table {number} with {metric} of {dataset}")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    categories = list(dict.fromkeys(row["category"] for row in rows))
    cells = {(row["category"], row["method"]): _printed(row) for row in rows}
    lines = ["| category | " + " | ".join(methods) + " |", "|---|" + "--:|" * len(methods)]
    lines += [f"| {c} | " + " | ".join(cells.get((c, method), "–") for method in methods) + " |" for c in categories]
    return "\n".join(lines)


def _printed(row: dict[str, str]) -> str:
    return f"{row['value']} ± {row['std']}" if row["std"] else row["value"]

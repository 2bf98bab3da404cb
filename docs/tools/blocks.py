"""The code blocks of a page: what its fences say is to be done with them.

A fence of bash, console or Python has one or more of WORDS behind the language; others (`text`, `yaml`) have none, nor
has `shell`: its commands are run by a session that the page names (`nox -s …`).

    run       is run as typed, in the page's folder, after the blocks above it
    long      takes minutes as typed: the tests run it with quick=true
    hub       asks timm's hub for weights: the tests give a file
    data      needs images and weights that are not here: the tests put stand-ins there, and take the smallest form
    serve     starts a server: the tests wait until it answers, and stop it
    install   installs something: the tests look whether what it names exists
    composed  needs a cluster: the tests parse and compose it, and never run it
    pdflatex  needs TeX: left out where there is none

A block with title="PATH" is a file of that path. A `text` block below one that is run is its output, which
`python docs/tools/outputs.py PAGE` writes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
WORDS = frozenset({"run", "long", "hub", "data", "serve", "install", "composed", "pdflatex"})
NEVER_RUN = frozenset({"install", "composed"})
SHELLS = ("bash", "console", "sh")
ELSEWHERE = "shell"
LANGUAGES = (*SHELLS, "python")
_FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>[a-z]+)(?P<words>(?: [a-z]+)*)(?: title="(?P<title>[^"]+)")?$\n'
    r"(?P<text>(?:(?! *```).*\n)*?)(?P=indent)```$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: behind the fence.
        words: of WORDS.
        title: of the file that it is, if it is one.
        text: between the fences, without the indent of a fence in a list.
        start: of `text` in the page.
        line: of the fence, from 1.
    """

    language: str
    words: frozenset[str]
    title: str | None
    text: str
    start: int
    line: int

    @property
    def runs(self) -> bool:
        """Whether it is to be run, in whatever form."""
        return bool(self.words)

    def commands(self) -> list[str]:
        """Return the command lines of a shell block, each in one line and without comments."""
        lines = [re.sub(r"(^|\s\s)# .*", "", line) for line in re.sub(r"\\\n\s*", "", self.text).splitlines()]
        return [line.strip() for line in lines if line.strip()]


def pages() -> list[Path]:
    """Return the pages that are written by hand: README and docs/."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page's text, in order."""
    for match in _FENCE.finditer(page):
        words = frozenset(match["words"].split())
        line = page.count("\n", 0, match.start()) + 1
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        yield Block(match["language"], words, match["title"], text, match.start("text"), line)


def tokens(command: str) -> list[str]:
    """Return the words of a command as a shell parts them, its comment left out."""
    return shlex.split(command, comments=True)


def main_job(readme: str) -> list[str]:
    """Return the commands of README's main job, without those that install."""
    return [command for command in _main_job(readme) if command.startswith("python -m harness")]


def installation(readme: str) -> list[str]:
    """Return the commands of README's main job that install."""
    return [command for command in _main_job(readme) if not command.startswith("python -m harness")]


def _main_job(readme: str) -> list[str]:
    (line,) = (
        line for line in readme.splitlines() if line.startswith("    python -m venv") and "harness.report" in line
    )
    return [part.strip() for part in line.split("&&")]

"""What is printed, whoever reads it: a person at a terminal, a pipe, the log of a CI that knows only ASCII."""

from __future__ import annotations

import codecs
import math
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 10_000  # columns of a pipe or a file, where no line has to end
READABLE = 160  # columns of a table with sentences in it
_SPOKEN = {
    "±": "+/-", "×": "x", "–": "-", "—": "-", "…": "...", "→": "->", "≤": "<=", "≥": ">=", "√": "sqrt ", "°": " deg",
    "µ": "u", "σ": "sigma", "τ": "tau", "²": "^2", "“": '"', "”": '"', "‘": "'", "’": "'", "─": "-", "│": "|",
}  # fmt: skip
_HANDLER = "harness.spoken"


def prepare_streams() -> None:
    r"""Make stdout and stderr take every character and give every line at once, in a pipe too.

    What an encoding lacks is written in its letters: `+/-` for `±`; the rest as `\xe9`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # not where a notebook has put something of its own
            with suppress(OSError, ValueError):  # closed, or another file than it was opened on
                stream.reconfigure(errors=_HANDLER, line_buffering=True)


def _in_its_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SPOKEN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in lacking), error.end


codecs.register_error(_HANDLER, _in_its_letters)


def spelled(text: str) -> str:
    """Return a text as stdout will show it: a table whose cells grow after it is laid out loses its lines."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _HANDLER).decode(encoding)


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at a stream who can be shown a line that changes, whatever FORCE_COLOR says."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(stderr: bool = False) -> Console:
    """Return where tables are printed: as wide as the terminal, without end in a pipe; COLUMNS has the last word.

    Square brackets and colons are what they are: settings (`layers=[layer2]`) and people's names have them.
    """
    from rich.console import Console

    shown = is_terminal(sys.stderr if stderr else sys.stdout)
    width = None if shown or os.environ.get("COLUMNS", "").isdigit() else WIDE
    return Console(stderr=stderr, width=width, force_terminal=shown, markup=False, emoji=False, highlight=False)


def counted(number: int, noun: str = "run") -> str:
    """Return a number with its noun: 1 run, 3 runs."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Return seconds as people say them: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def space(size: float) -> str:
    """Return bytes as MiB or GiB, rounded up."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"

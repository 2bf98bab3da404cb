"""What a check says, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from harness.errors import HarnessError
from harness.schema import one_line

State = Literal["OK", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        state: an error stops a run, a warning may matter.
        subject: what was looked at.
        text: what was found and, unless it is OK, what to do.
    """

    state: State
    subject: str
    text: str


def ok(subject: str, text: str) -> Finding:
    """Return that something is as it should be."""
    return Finding("OK", subject, text)


def warning(subject: str, text: str) -> Finding:
    """Return what a run may suffer from."""
    return Finding("warning", subject, text)


def error(subject: str, text: str) -> Finding:
    """Return what stops a run."""
    return Finding("error", subject, text)


def asked(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds; what it refuses would stop a run too, and one that fails itself is a warning."""
    try:
        yield from check()
    except HarnessError as failure:
        yield error(subject, str(failure))
    except Exception as failure:
        yield warning(subject, f"could not be looked at ({type(failure).__name__}: {one_line(failure)[:200]}).")

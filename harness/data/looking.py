"""Looking at data sets only: for commands that tell what a run would do, and promise to change nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

from harness.errors import DataError

_looking = ContextVar("looking", default=False)


class AwaitedError(DataError):
    """Images are not there, and the first run that needs them downloads them."""


@contextmanager
def looking() -> Iterator[None]:
    """Let nothing be downloaded or drawn into a data set's folder: what is awaited is an :class:`AwaitedError`."""
    before = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(before)


def is_looking() -> bool:
    """Tell whether data sets must stay as they are."""
    return _looking.get()


def toy_aside() -> Path:
    """Draw the toy data where they are gone when this process ends: keys of runs stand on their content."""
    from harness.data import toy

    return toy.generate(Path(_aside().name))


@lru_cache(maxsize=1)
def _aside() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="harness-toy-", ignore_cleanup_errors=True)

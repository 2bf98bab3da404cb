"""Fixtures of the tests on runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from harness import interruption


@pytest.fixture
def interruptible(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process be interrupted as a command is, and take that back."""
    monkeypatch.setattr(interruption, "_received", [])
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    interruption.catch_stops()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)

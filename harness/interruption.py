"""What may end a command before its work is done: Ctrl-C, a cluster, a closed terminal, a reader that has gone."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

STOP_SECONDS = 20.0  # that an interrupted run has for telling the store; Slurm gives the sweep 30

# SIGTERM is what clusters, service managers and `kill` send; SIGHUP comes from a terminal that closes.
_STOPS = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
_USUAL = (signal.SIG_DFL, signal.default_int_handler)
_AT_ONCE_SECONDS = 1.0  # a terminal that closes and a service manager send several signals, and mean one
_received: list[int] = []
_held = 0  # blocks that must not be interrupted
_waiting_since: float | None = None  # an interrupt for the end of such a block


def catch_stops() -> None:
    """Let SIGTERM and SIGHUP interrupt this process as Ctrl-C does; one that is ignored (`nohup`) stays ignored."""
    numbers = [signal.SIGINT, *_STOPS]
    _handle(_interrupt, [number for number in numbers if signal.getsignal(number) in _USUAL])


@contextmanager
def held() -> Iterator[None]:
    """Let an interrupt wait for the end of a block: one in the middle of a transaction leaves the database locked.

    Another one, some time after it, does not wait: who sends it has seen that the first takes too long.
    """
    global _held, _waiting_since
    if threading.current_thread() is not threading.main_thread():  # others are not interrupted
        yield
        return
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if _waiting_since is not None and not _held:
            _waiting_since = None
            raise KeyboardInterrupt


def received() -> bool:
    """Whether this process has been interrupted."""
    return bool(_received)


def exit_code() -> int:
    """Return the exit code of a command that was interrupted: 130, or 128 and the number of the signal that did it."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def interrupt_once(stops: bool = True) -> None:
    """Let the first of Ctrl-C, SIGTERM and SIGHUP interrupt this process, and none after it.

    A cluster tells all processes of a job to stop, and then the sweep tells its workers: the second must not come
    between the first and what a run has to tell the store.

    Args:
        stops: False for Ctrl-C alone, where the others are somebody else's.
    """
    others = [number for number in _STOPS if stops and signal.getsignal(number) != signal.SIG_IGN]
    _handle(_interrupt_first, [signal.SIGINT, *others])


def outlive_readers() -> None:
    """Go on where nobody reads any more what is printed: `| head`, a terminal that is gone, a log on a full disk."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # nobody has read from the beginning
                stream.flush()
            raw = _Lasting(stream.fileno(), "wb", closefd=False)
            lasting = io.TextIOWrapper(
                io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True
            )
            setattr(sys, name, lasting)


def _handle(handler: Callable[[int, FrameType | None], None], numbers: list[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _waiting_since
    _received.append(number)
    now = time.monotonic()
    if _held and _waiting_since is None:
        _waiting_since = now
    elif not _held or (_waiting_since is not None and now - _waiting_since > _AT_ONCE_SECONDS):
        _waiting_since = None
        raise KeyboardInterrupt


def _interrupt_first(number: int, frame: FrameType | None) -> None:
    if not _received:
        _interrupt(number, frame)


class _Lasting(io.FileIO):
    """A file that takes everything, whether it can be written or not."""

    def write(self, data: Any) -> int:
        """Write what can be written, and say that all of it was."""
        view = memoryview(data).cast("B")
        with suppress(OSError):
            done = 0
            while done < len(view):
                done += os.write(self.fileno(), view[done:])
        return len(view)

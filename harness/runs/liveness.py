"""Which open runs are at work and which are dead.

Processes that share a folder of locks know each other by it: the operating system releases a lock with its process,
however that ends. Runs of processes that do not share it, on other hosts most of all, are known to live by their
heartbeat.
"""

from __future__ import annotations

import hashlib
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from harness.runs.environment import machine_folder
from harness.uri import scrubbed, sqlite_path

HOST = "harness.host"
LOCKS = "harness.locks"  # which folder of locks a run's process holds its lock in
HEARTBEAT = "harness.heartbeat"
BEAT_SECONDS = 30.0
DEAD_SECONDS = 600.0  # without a beat, by the clock, a run is looked at
WATCH_SECONDS = 75.0  # without a beat while it is looked at, a run is dead, whatever the hosts' clocks say
_LOOK_SECONDS = 1.0


def lock_folder(uri: str) -> Path:
    """Return where locks of a store lie: beside a local database, else in this machine's folder for its URI."""
    if uri.startswith("sqlite:"):
        return sqlite_path(uri).resolve().parent / "locks"
    name = hashlib.sha256(scrubbed(uri).encode()).hexdigest()[:16]
    return machine_folder() / name


def name_of(locks: Path) -> str:
    """Return the name of a folder of locks, the same for all processes that share it; made by the first."""
    path = locks / "name"
    if not path.exists():
        with FileLock(locks / "store.lock"):
            if not path.exists():
                aside = path.with_name(".naming")
                aside.write_text(uuid.uuid4().hex)
                aside.replace(path)
    return path.read_text()


def shares_locks(tags: Mapping[str, str], locks: str) -> bool:
    """Whether the process behind a run's tags holds its lock, if it lives, in the folder of that name."""
    return tags.get(LOCKS) == locks


def is_fresh(tags: Mapping[str, str]) -> bool:
    """Whether a run's last beat is of these minutes, by this host's clock; one of the future is not."""
    age = time.time() - float(tags.get(HEARTBEAT, 0))
    return -2 * BEAT_SECONDS <= age <= DEAD_SECONDS


def beats(look: Callable[[], Mapping[str, str] | None], who: str) -> bool:
    """Watch a run whose last beat is long ago by this host's clock, which may go wrong; return whether it lives.

    Args:
        look: returns the run's tags, or None when it is over.
        who: host that the run is on, for the line that says why this takes time.
    """
    first = look()
    if first is None:
        return False
    print(
        f"A run of {who} has been silent for long: watching it for {WATCH_SECONDS:.0f} s before it is taken for dead.",
        file=sys.stderr,
        flush=True,
    )
    looks = 0
    while looks < WATCH_SECONDS / _LOOK_SECONDS:
        before = time.monotonic()
        time.sleep(_LOOK_SECONDS)
        tags = look()
        if tags is None:
            return False
        if tags.get(HEARTBEAT) != first.get(HEARTBEAT):
            return True
        # One that took long has waited for a server that was away, for the other host as well: watch from there on.
        looks = looks + 1 if time.monotonic() - before < BEAT_SECONDS else 0
    return False

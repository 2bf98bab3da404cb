"""The processes of this machine, as Linux lists them."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path


def processes() -> dict[int, tuple[int, str]]:
    """Return every living process with its parent and command line."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                line = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(stat.parent.name)] = int(parent), line
    return found


def descendants(pid: int) -> set[int]:
    """Return the processes below one."""
    above = {child: parent for child, (parent, _) in processes().items()}
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for child, parent in above.items() if parent in found} - found
    return found - {pid}


def outliving(pids: set[int], seconds: float) -> set[int]:
    """Return those of the processes that are still there after so long."""
    until = time.monotonic() + seconds
    while (left := pids & set(processes())) and time.monotonic() < until:
        time.sleep(0.02)
    return left

"""Be a command of the harness inside limits; what tests/fork_server.py runs for the fault tests.

    python -m chaos_child '{"limits": {...}, ...}' MODULE ARGUMENTS…

The worker processes of a sweep are forked here, not spawned: importing torch and anomalib takes twenty seconds of a
core for each, and fifty kills would be spent on imports. `test_chaos_kills.py` starts some sweeps for real besides.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_CAPABILITIES_VERSION_3 = 0x20080522
_OVERRIDES = 0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER


def enter(
    limits: Mapping[str, int | str] = {},
    groups: Sequence[str] = (),
    obedient: bool = False,
    unread: Sequence[int] = (),
    temporary: str | None = None,
    ignored: Sequence[int] = (),
) -> None:
    """Take on what the test wants.

    Args:
        limits: by their names in `resource`; `"+…"` is as much beyond the address space that is used already.
        groups: control groups to enter, by their folders.
        obedient: what the modes of files forbid is forbidden to root too.
        unread: descriptors that become pipes which nobody reads.
        temporary: folder for temporary files.
        ignored: signals, as `nohup` ignores SIGHUP.
    """
    for group in groups:
        Path(group, "cgroup.procs").write_text("0")
    for name, given in limits.items():
        value = given if isinstance(given, int) else int(given) + _address_space()
        resource.setrlimit(getattr(resource, name), (value, value))
    if obedient:
        _obey_permissions()
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    if temporary is not None:
        tempfile.tempdir = temporary
    for descriptor in unread:
        reading, writing = os.pipe()
        os.dup2(writing, descriptor)
        os.close(reading)
        os.close(writing)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _obey_permissions() -> None:
    """Give up what lets root write where the mode of a folder forbids it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for i in range(3):  # effective, permitted, inheritable; the second half are newer capabilities
        sets[i] &= ~_OVERRIDES
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    enter(**json.loads(sys.argv[1]))
    forking = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forking  # type: ignore[assignment]
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

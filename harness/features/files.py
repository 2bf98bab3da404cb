"""Files on storage that processes share, on one host or on many.

A file is there whole or not at all: it is written aside, under a name that no other process has, and renamed. Nothing
else is relied on. A network file system may give no locks, or locks that outlive their holder; hosts' clocks differ;
what one host reads another may delete. So a lock only saves work, what is left aside is swept late, and every read
may find its file gone.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from harness.identity import digest

ASIDE = ".writing-"
SILENT_SECONDS = 86400.0  # after which another host's writer is dead: more than clocks differ
STANDSTILL_SECONDS = 300.0  # without a sign of life, the holder of a lock is waited for no longer
_LOOK_SECONDS = 2.0


class FileMap:
    """A feature map in a file, read whenever it is asked for.

    It is not memory-mapped: where another host deletes or damages the file, a read raises, and a touch of mapped
    memory ends the process.

    Args:
        path: of an array as NumPy saves it.

    Raises:
        OSError, ValueError: when there is no such file, or it is not a whole array.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{path} is not a feature map")
            self.shape, fortran, self.dtype = np.lib.format.read_array_header_1_0(file)
            self._start, length = file.tell(), os.fstat(file.fileno()).st_size
        if self.dtype.hasobject or fortran or length != self._start + self.nbytes:
            raise ValueError(f"{path} is not a whole feature map")

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.size * self.dtype.itemsize

    def read_into(self, values: NDArray[Any]) -> None:
        """Read the file into a contiguous array of its shape and type.

        Raises:
            OSError, ValueError: when the file is gone, or no longer whole.
        """
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._start)
            if file.readinto(values.data.cast("B")) != self.nbytes:
                raise ValueError(f"{self._path} is no longer a whole feature map")

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a new array; raises as :meth:`read_into`."""
        values = np.empty(self.shape, self.dtype)
        self.read_into(values)
        return values if dtype is None else values.astype(dtype, copy=False)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a file to write to, which takes its place when all is written, and never half."""
    aside = path.with_name(f"{ASIDE}{_host()}_{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def write_array(path: Path, values: NDArray[Any]) -> None:
    """Write an array as NumPy saves it.

    Raises:
        OSError: when there is no room, or the folder cannot be written.
    """
    try:
        _write_array(path, values)
    except FileNotFoundError:  # swept by a host whose clock is a day ahead
        _write_array(path, values)


def _write_array(path: Path, values: NDArray[Any]) -> None:
    with whole(path) as aside, aside.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def write_text(path: Path, text: str) -> None:
    """Write a text."""
    with whole(path) as aside:
        aside.write_text(text)


def sweep(folder: Path) -> None:
    """Delete what writers that died left aside in a folder and those in it."""
    for pattern in (f"{ASIDE}*", f"*/{ASIDE}*"):
        for half in folder.glob(pattern):
            if _abandoned(half):
                with suppress(OSError):
                    half.unlink(missing_ok=True)


@contextmanager
def one_writer(lock: Path) -> Iterator[None]:
    """Let one process in at a time, where that can be had.

    It saves work and no more: where the file system has no locks, or the holder shows no sign of life
    (:func:`show_life`) for minutes, as a lock that its dead host left behind, one goes in nevertheless.
    """
    held = _acquired(lock)
    try:
        yield
    finally:
        if held is not None:
            held.release()


def show_life(lock: Path) -> None:
    """Tell those who wait for a lock that its holder gets on."""
    with suppress(OSError):
        os.utime(lock)


def _acquired(path: Path) -> FileLock | None:
    lock = FileLock(path)
    seen, since = _touched(path), time.monotonic()
    while time.monotonic() - since < STANDSTILL_SECONDS:
        try:
            lock.acquire(timeout=_LOOK_SECONDS)
            return lock
        except Timeout:
            if (now := _touched(path)) != seen:  # only whether it changes: clocks differ
                seen, since = now, time.monotonic()
        except (OSError, NotImplementedError):
            return None
    return None


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _abandoned(half: Path) -> bool:
    """Whether the writer of a half file is dead; of a writer on another host, whether it has been silent for long."""
    host, _, rest = half.name.removeprefix(ASIDE).partition("_")
    pid = rest.partition("-")[0]
    try:
        if host != _host() or not pid.isdigit():
            return time.time() - half.stat().st_mtime > SILENT_SECONDS
        os.kill(int(pid), 0)
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:  # another user's process
        return False
    return int(pid) == os.getpid()


@lru_cache(maxsize=1)
def _host() -> str:
    """Return what tells a process of this host from those of others, whose numbers mean nothing here.

    Containers may have one host name, and each its own process 1.
    """
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return digest(marks)[:8]

"""A folder mounted as a host sees another's over NFS: caches of its own, no locks between hosts, files that go stale.

    python stateless_mount.py FOLDER MOUNTPOINT

The server keeps no file open for a client: a file that another host deletes or replaces is gone in the middle of its
use (ESTALE), where a local file system would keep it until it is closed. Names and attributes are cached for seconds.
`flock` is answered by each mount for itself, as with NFS's `nolock`. It is FUSE, by the package mfusepy and libfuse.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from mfusepy import FUSE, FuseOSError, Operations

CACHED_SECONDS = 2


class Stateless(Operations):
    """Does every request by the file's path, and checks that it is the file that was opened."""

    use_ns = True

    def __init__(self, root: str) -> None:
        self._root = root
        self._opened: dict[int, int] = {}  # handle -> inode
        self._next = 1

    def _at(self, path: str) -> str:
        return self._root + path

    def _remember(self, path: str) -> int:
        self._opened[self._next] = os.stat(self._at(path)).st_ino
        self._next += 1
        return self._next - 1

    def _reopen(self, path: str, handle: int, flags: int) -> int:
        try:
            file = os.open(self._at(path), flags)
        except FileNotFoundError:
            raise FuseOSError(errno.ESTALE) from None
        if os.fstat(file).st_ino != self._opened[handle]:
            os.close(file)
            raise FuseOSError(errno.ESTALE)
        return file

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._at(path))
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")
        times = ("st_atime", "st_mtime", "st_ctime")
        return {name: getattr(found, name) for name in names} | {name: getattr(found, f"{name}_ns") for name in times}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._at(path))]

    def open(self, path: str, flags: int) -> int:
        return self._remember(path)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        os.close(os.open(self._at(path), os.O_CREAT | os.O_WRONLY, mode))
        return self._remember(path)

    def release(self, path: str, fh: int) -> int:
        del self._opened[fh]
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        file = self._reopen(path, fh, os.O_RDONLY)
        try:
            return os.pread(file, size, offset)
        finally:
            os.close(file)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        file = self._reopen(path, fh, os.O_WRONLY)
        try:
            return os.pwrite(file, data, offset)
        finally:
            os.close(file)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._at(path), length)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._at(path), ns=times)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._at(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._at(path))
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._at(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        os.replace(self._at(old), self._at(new))
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._at(path))
        names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_ffree", "f_files", "f_frsize", "f_namemax")
        return {name: getattr(found, name) for name in names}


if __name__ == "__main__":
    times = dict.fromkeys(("entry_timeout", "attr_timeout", "negative_timeout"), CACHED_SECONDS)
    FUSE(Stateless(sys.argv[1]), sys.argv[2], foreground=True, nothreads=True, auto_cache=True, **times)

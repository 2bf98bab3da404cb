"""What glibc does with freed memory: keep it, where its default is to give it back and fault it in again."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 2**30


def keep_freed_memory() -> bool:
    """Reuse freed blocks of up to 1 GiB; does nothing where the C library is not glibc.

    By default glibc maps every block above 32 MiB anew and unmaps it when it is freed. A training step frees and
    allocates the same half gigabyte again and again, and the kernel clears each page of it each time: a tenth to a
    fifth of the step's time. With both thresholds raised such blocks stay in the heap.

    The price is resident memory: what a process once used and freed, it keeps, up to 1 GiB at the end of the heap and
    whatever lies between blocks in use; the gaps between them raise the peak (RADL's training by a sixth). Call
    `return_freed_memory` where the next peak shall be measured, or where memory is scarce between two runs.

    Returns:
        Whether the C library took the settings.
    """
    libc = _glibc()
    if libc is None:
        return False
    return bool(libc.mallopt(M_MMAP_THRESHOLD, KEPT)) and bool(libc.mallopt(M_TRIM_THRESHOLD, KEPT))


def return_freed_memory() -> None:
    """Give what is kept back to the system; does nothing where the C library is not glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None

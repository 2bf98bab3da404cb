"""What the allocator's settings do, each time in a process of its own."""

import json
import platform
import subprocess
import sys

import pytest

from harness.runs import allocator

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
ALLOCATE = """
import json, resource, sys
import numpy as np
from harness.runs.allocator import keep_freed_memory, return_freed_memory

def step():
    block = np.ones(2**23)  # 64 MiB
    return (block * 2).sum()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

took = keep_freed_memory() if sys.argv[1] == "keep" else None
total = step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
total += step() + step() + step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
kept = resident()
return_freed_memory()
print(json.dumps({"took": took, "total": total, "faults": faults, "kept": kept, "returned": resident()}))
"""


def _allocate(mode: str) -> dict[str, float]:
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ALLOCATE, mode]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)


@GLIBC
def test_freed_memory_is_used_again_without_page_faults_and_returned_on_demand() -> None:
    kept, plain = _allocate("keep"), _allocate("plain")
    assert kept["took"] is True
    assert kept["total"] == plain["total"]
    assert kept["faults"] < 0.1 * plain["faults"]
    assert kept["kept"] - kept["returned"] > 100  # MiB: both blocks


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))  # what macOS, Windows and musl answer
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda *_: pytest.fail("no library is opened"))
    assert allocator.keep_freed_memory() is False
    allocator.return_freed_memory()

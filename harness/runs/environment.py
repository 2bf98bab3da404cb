"""What a run ran on: recorded beside its numbers, never part of its identity."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import tempfile
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from harness.runs.allocator import return_freed_memory

JOBS = "HARNESS_JOBS"  # in a worker's environment: how many runs go at once on this machine
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CLASSIFIER_LIBRARIES = ("scikit-learn", "optuna")
LIBRARIES = ("torch", "anomalib", "lightning", "timm", "torchvision", "numpy")


@lru_cache(maxsize=2)
def libraries(names: tuple[str, ...] = LIBRARIES) -> str:
    """Return the versions of the libraries that compute numbers."""
    return ",".join(f"{name}={metadata.version(name)}" for name in names)


@lru_cache(maxsize=1)
def describe() -> str:
    """Return the text of `environment.txt`: platform and every installed distribution."""
    packages = sorted({f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions()}, key=str.lower)
    machine = f"python {platform.python_version()}\nplatform {platform.platform()}\nprocessor {processor()}\n"
    return machine + "\n".join(packages) + "\n"


@lru_cache(maxsize=1)
def processor() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """Return the name of a device of this torch type: the GPU's, or the processor's with the type."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return f"{device}: {processor()}"


def share_the_machine(jobs: int) -> None:
    """Let this process, and those that it starts, leave cores to the other runs.

    It comes before torch and NumPy are imported, so also before the process is started that joblib or submitit let
    import NumPy first.

    Args:
        jobs: runs at once; with more than one, times are not measured.
    """
    os.environ[JOBS] = str(jobs)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in _THREADS:
        os.environ.setdefault(name, "1")


def machine_folder() -> Path:
    """Return where this machine keeps locks that belong to no store, which others may share."""
    return Path(tempfile.gettempdir()) / f"anomaly-harness-{getpass.getuser()}"


def reset_peak_memory() -> None:
    """Start a new peak, so that a run in a sweep does not report its predecessors' memory.

    What they freed and the process kept goes back to the system first.
    """
    import torch

    return_freed_memory()

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets the peak resident size


def peak_memory() -> dict[str, float]:
    """Return the peaks since the last reset in MiB: resident memory of the process, and memory of the GPU if any."""
    import torch

    peaks = {"memory/host_peak": _peak_resident()}
    if torch.cuda.is_available():
        peaks["memory/device_peak"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


def _peak_resident() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return float(line.split()[1]) / 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024

"""The machine: Python and its libraries, GPU, cores, memory and disk. torch, which takes seconds, is not imported."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from omegaconf import DictConfig

from harness.doctor.checks import Finding, error, ok, warning
from harness.runs import devices
from harness.terminal import counted, space
from harness.workers import count

DISTRIBUTION = "anomaly-harness"
PYTHONS = ((3, 11), (3, 14))  # from, and below
GIB = 2**30
RUN_BYTES = 2 * GIB  # of a run, where the store knows no better: torch and the libraries are a third of it
LEAST_BYTES, FEW_BYTES = GIB // 4, 5 * GIB  # of disk
_MANY = 1000  # runs that would use all workers there can be


def python() -> Iterator[Finding]:
    """Look at the interpreter."""
    here = f"{platform.python_version()} in {sys.prefix}"
    first, below = PYTHONS
    if first <= sys.version_info[:2] < below:
        yield ok("Python", here)
    else:
        yield error(
            "Python", f"{here}: make an environment of Python {first[0]}.{first[1]} to {below[0]}.{below[1] - 1}."
        )


def libraries() -> Iterator[Finding]:
    """Look at what must be installed, and in which versions."""
    from packaging.requirements import Requirement

    try:
        required = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]
    except importlib.metadata.PackageNotFoundError:
        yield warning(
            "Libraries", "the harness runs from a folder and is not installed: pip install -e . in a checkout."
        )
        return
    required = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    missing, others = [], []
    for one in required:
        version = _version(one.name)
        if version is None:
            missing.append(one.name)
        elif not one.specifier.contains(version, prereleases=True):
            others.append(f"{one.name} {version} (wanted: {one.specifier})")
    if missing:
        yield error("Libraries", f"{', '.join(missing)} not installed: pip install {' '.join(missing)}")
    if others:
        yield warning("Libraries", f"{', '.join(others)}: pip install -c constraints.txt . in a checkout")
    if not missing and not others:
        anomalib, mlflow = _version("anomalib"), _version("mlflow")
        yield ok(
            "Libraries",
            f"{len(required)} packages in the wanted versions, among them anomalib {anomalib}, MLflow {mlflow}",
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch(config: DictConfig) -> Iterator[Finding]:
    """Look at torch's build, and whether it and the GPU's driver fit together and to `trainer.device`."""
    version, cuda = torch_build()
    if version is None:
        yield error("torch", "not installed: pip install torch")
        return
    yield ok("torch", f"{version}, built {f'for CUDA {cuda}' if cuda else 'without CUDA'}")
    yield from gpu(config.trainer.device, devices.visible(), _driver(), cuda)


def torch_build() -> tuple[str | None, str | None]:
    """Return torch's version and the CUDA version that it is built for, from its files."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None, None
    text = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    cuda = re.search(r"^cuda\b[^=\n]*= *'([\d.]+)'", text, re.MULTILINE)
    return _version("torch"), cuda[1] if cuda else None


def gpu(device: str, gpus: int, driver: str | None, cuda: str | None) -> Iterator[Finding]:
    """Look at the GPU.

    Args:
        device: `trainer.device`.
        gpus: that the driver shows this process.
        driver: the newest CUDA version that the driver knows.
        cuda: the CUDA version that torch is built for.
    """
    wanted = device == "cuda"
    problem = error if wanted else warning
    if device == "mps":
        apple = sys.platform == "darwin"
        yield (
            ok("GPU", "Apple's, by trainer.device=mps")
            if apple
            else error("GPU", "trainer.device=mps is for Macs: give trainer.device=auto.")
        )
    elif device == "cpu":
        yield ok("GPU", f"not used, by trainer.device=cpu ({gpus} seen)")
    elif not gpus and wanted:
        yield error(
            "GPU", "none is seen: install NVIDIA's driver, look at CUDA_VISIBLE_DEVICES, or trainer.device=cpu."
        )
    elif not gpus:
        yield ok("GPU", "none is seen, runs are computed on the processor")
    elif cuda is None:
        yield problem("GPU", f"{gpus} seen, but torch is built without CUDA: install a CUDA build of torch.")
    elif driver is not None and _major(driver) < _major(cuda):
        yield problem(
            "GPU", f"{gpus} seen, but the driver knows CUDA {driver} and torch needs {cuda}: update one of them."
        )
    else:
        yield ok("GPU", f"{gpus} NVIDIA {'GPU' if gpus == 1 else 'GPUs'}, driver for CUDA {driver or 'unknown'}")


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _driver() -> str | None:
    """Return the newest CUDA version that the driver knows."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    return (
        None
        if driver.cuDriverGetVersion(ctypes.byref(number))
        else f"{number.value // 1000}.{number.value % 1000 // 10}"
    )


def cores(config: DictConfig, peaks: Iterable[float]) -> Iterator[Finding]:
    """Look at cores and memory for as many runs at once as the launcher starts.

    Args:
        config: of the sweep.
        peaks: memory of finished runs of the methods, in MiB.
    """
    here, threads = os.cpu_count() or 1, config.trainer.threads
    jobs = count(config.launcher.jobs, _MANY, config.trainer.device, max(1, threads))
    told = f"{counted(jobs)} at once × {counted(threads, 'thread')}"
    if jobs * threads > here:
        yield warning("Cores", f"{here} for {told}: lower launcher.jobs or trainer.threads.")
    elif jobs == 1 and here > 1 and config.launcher.name == "serial":
        yield ok("Cores", f"{here} for {told}; launcher=local runs several")
    else:
        yield ok("Cores", f"{here} for {told}")
    free, known = _memory(), [peak * 2**20 for peak in peaks]
    if free is None:
        return
    need = max(known, default=RUN_BYTES)
    ground = "as finished runs took" if known else "a guess: no run has finished"
    told = f"{space(free)} free for {jobs} × {space(need)} ({ground})"
    if jobs * need > free:
        yield warning("Memory", f"{told}: lower launcher.jobs, method.batch_size or trainer.eval_batch_size.")
    else:
        yield ok("Memory", told)


def _memory() -> int | None:
    """Return the bytes of memory that are free, of the machine or of this process's group; None where unknown."""
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists() and (line := re.search(r"MemAvailable: *(\d+)", meminfo.read_text())):
        found.append(int(line[1]) * 1024)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        found.append(int(limit.read_text()) - int(used.read_text()))
    return min(found, default=None)


def disk(config: DictConfig, features: int) -> Iterator[Finding]:
    """Look at the folder of runs: that it can be written, and has room.

    Args:
        config: of the run.
        features: bytes that stored features take now.
    """
    folder = Path(config.tracking.directory).expanduser()
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as failure:
        yield error("Disk", f"{above} cannot be written ({failure.strerror}): change it or tracking.directory.")
        return
    free = shutil.disk_usage(above).free
    yield from room(free, folder)
    if config.features.store == "disk":
        yield from _features(config, features, free)


def room(free: int, folder: Path) -> Iterator[Finding]:
    """Look at the bytes that are free for a folder."""
    if free < LEAST_BYTES:
        yield error("Disk", f"{space(free)} free for {folder}: make room, or give tracking.directory on another disk.")
    elif free < FEW_BYTES:
        yield warning(
            "Disk", f"{space(free)} free for {folder}: runs end when it is full; dry=true says what they need."
        )
    else:
        yield ok("Disk", f"{space(free)} free for {folder}")


def _features(config: DictConfig, size: int, free: int) -> Iterator[Finding]:
    limit = int(config.features.limit_gib * GIB)
    told = f"{space(size)} of features.limit_gib={config.features.limit_gib:g}"
    if limit - size > free - GIB:
        yield warning("Features", f"{told}, and only {space(free)} of disk: less is kept; lower features.limit_gib.")
    else:
        yield ok("Features", told)


def report() -> Iterator[Finding]:
    """Look at what people think a report needs."""
    latex = "installed" if shutil.which("pdflatex") else "not installed"
    yield ok("Report", f"needs no LaTeX and no browser; pdflatex is {latex} (only to compile tables/*.tex)")

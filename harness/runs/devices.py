"""GPUs of this machine: runs are queued for them, whichever processes and sweeps they come from."""

from __future__ import annotations

import ctypes
import gc
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import ConfigError
from harness.runs.environment import machine_folder

_POLL_SECONDS = 0.5


@contextmanager
def claim(device: str) -> Iterator[int]:
    """Hold a GPU while a run is on it, as torch's current one; wait while all are held. Nothing else is waited for.

    Args:
        device: `trainer.device`: auto, cpu, cuda or mps.

    Yields:
        The index of the GPU, or 0.

    Raises:
        ConfigError: for cuda without a GPU.
    """
    gpus = _names() if device in ("auto", "cuda") else []
    if device == "cuda" and not gpus:
        raise ConfigError(
            "trainer.device=cuda is not possible, for torch sees no GPU: look for one with `nvidia-smi`, or give "
            "trainer.device=auto, which takes what is there."
        )
    if not gpus:
        yield 0
        return
    import torch

    with first_free(gpus, machine_folder()) as index:
        torch.cuda.set_device(index)
        try:
            yield index
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # they hold the model
            raise
        finally:
            gc.collect()
            torch.cuda.empty_cache()  # the next run on this GPU may be another process's


@contextmanager
def first_free(names: Sequence[str], folder: Path) -> Iterator[int]:
    """Hold the lock of a device that is free, and yield its index.

    The device that this process held last comes first: what it keeps in memory lies there. The operating system frees
    a lock when its process ends, however it does.

    Args:
        names: what the devices are called, the same in every process.
        folder: where the lock files lie.
    """
    folder.mkdir(parents=True, exist_ok=True)
    locks = [FileLock(folder / f"gpu-{name.replace('/', '-')}.lock") for name in names]
    index = _acquire(locks)
    try:
        yield index
    finally:
        locks[index].release()


def _acquire(locks: Sequence[FileLock]) -> int:
    order = sorted(range(len(locks)), key=lambda index: locks[index].lock_file != _last.get("lock"))
    while True:
        for index in order:
            try:
                locks[index].acquire(timeout=0)
            except Timeout:
                continue
            _last["lock"] = locks[index].lock_file
            return index
        time.sleep(_POLL_SECONDS)


_last: dict[str, str] = {}  # the lock file of the device that this process held last


def visible() -> int:
    """Return how many NVIDIA GPUs this process may use, by their driver: who only starts runs need not import torch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    number = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number)):
        return 0
    return number.value


def _names() -> list[str]:
    """Return a name for each GPU that torch sees, the same in processes that see different ones of the machine's.

    It is the GPU's UUID: jobs of Slurm's may each know theirs as number 0. A part of a GPU (MIG) has that of the whole,
    so it goes by what a process was given it as: `MIG-…`, its own.
    """
    import torch

    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    shown = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if number and len(shown) >= number and shown[0].startswith("MIG-"):
        return shown[:number]
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(number)]

"""Where feature maps are kept: one file an image and layer, named by content, so that everyone can share them.

    <directory>/<backbone>-<context>/context.json             what the context stands for, in words
    <directory>/<backbone>-<context>/cost.json                what extraction cost, by device
    <directory>/<backbone>-<context>/<layer>/<image>.npy      C×h×w

A file appears whole or not at all (written aside, then renamed), and its name says what is in it: readers need no
lock, two writers would write the same. One writer a set of images at a time is a matter of not doing work twice.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from harness.identity import digest

STORE_VERSION = 1  # raise it when preprocessing or extraction changes the features of an unchanged context
_ASIDE = ".writing-"
_WRITER = f"{digest(socket.gethostname())[:8]}_{os.getpid()}"
_SILENT_SECONDS = 3600.0
_RESERVE = 2**30  # bytes of the disk that features never take

_Entry = TypeVar("_Entry")
Maps = Mapping[str, NDArray[Any]]  # layer -> C×h×w


@dataclass(frozen=True)
class Context:
    """All that features depend on besides image and layer.

    Args:
        weights: name and content hash of the backbone's weights.
        preprocess: geometry and standardisation, as canonical JSON.
        dtype: in which features are stored.
        device: `cpu` or `cuda`, with the instructions it computes with.
        library: versions of what turns a file into features.
    """

    weights: str
    preprocess: str
    dtype: str
    device: str
    library: str
    version: int = STORE_VERSION

    @property
    def name(self) -> str:
        """A folder name: the network and a hash of everything."""
        return f"{self.weights.partition(':')[0]}-{digest(asdict(self))[:16]}"


class Shelf(Protocol):
    """The features of one context."""

    def read(self, image: str, layers: Sequence[str]) -> Maps | None:
        """Return the maps of an image (named by the hash of its content), or None unless all layers are there."""

    def write(self, image: str, maps: Maps) -> None:
        """Keep the maps of an image; raises `OSError` when there is no room."""

    def make_room(self, size: int, needed: Iterable[str]) -> bool:
        """Forget what was not used for longest until `size` bytes fit, sparing the images needed; say if they fit."""

    def writing(self, images: Iterable[str]) -> Any:
        """Return a context manager that one writer of these images holds at a time."""

    def cost(self, device: str, layers: Sequence[str]) -> float | None:
        """Return the seconds that extracting an image's layers cost on a device, if that is known.

        More layers up to the same deepest one cost the same: the network runs that far anyway.
        """

    def set_cost(self, device: str, layers: Sequence[str], seconds: float) -> None:
        """Record the seconds that an image's layers cost."""


class DiskShelf:
    """Features in files, memory-mapped by readers.

    Args:
        directory: of all contexts.
        context: what these features depend on.
        limit: bytes that the directory may take.
    """

    def __init__(self, directory: Path, context: Context, limit: int) -> None:
        self._directory, self._limit = directory, limit
        self._folder = directory / context.name
        self._folder.mkdir(parents=True, exist_ok=True)
        described = self._folder / "context.json"
        if not described.exists():
            _write_text(described, json.dumps(asdict(context), indent=1))

    def read(self, image: str, layers: Sequence[str]) -> Maps | None:
        """See :class:`Shelf`; a file that is damaged counts as missing."""
        maps = {}
        for layer in layers:
            path = self._path(image, layer)
            try:
                maps[layer] = _mapped(path)
            except (OSError, ValueError, EOFError):
                return None
            with suppress(OSError):  # a store that may only be read serves too
                os.utime(path)  # used now: the last to be evicted
        return maps

    def write(self, image: str, maps: Maps) -> None:
        """See :class:`Shelf`."""
        for layer, values in maps.items():
            path = self._path(image, layer)
            path.parent.mkdir(exist_ok=True)
            with _whole(path) as aside, aside.open("wb") as file:
                np.save(file, values, allow_pickle=False)

    def make_room(self, size: int, needed: Iterable[str]) -> bool:
        """See :class:`Shelf`. The limit is for the whole directory, so other contexts' features may go.

        A gibibyte of the disk stays free in any case: a run that finds no room for features must find it for results.
        """
        spared = {self._path(image, "").name for image in needed}
        files = sorted(_features(self._directory), key=lambda found: found[1])
        free = min(
            self._limit - sum(length for _, _, length in files),
            shutil.disk_usage(self._directory).free - _RESERVE,
        )
        mine = self._folder
        evictable = [(path, n) for path, _, n in files if path.parent.parent != mine or path.name not in spared]
        return _evict(evictable, free, size, Path.unlink)

    @contextmanager
    def writing(self, images: Iterable[str]) -> Iterator[None]:
        """See :class:`Shelf`; what writers that died left aside is swept."""
        with FileLock(self._folder / f"writer-{digest(sorted(images))[:16]}.lock"):
            for half in self._folder.glob(f"*/{_ASIDE}*"):
                if _abandoned(half):
                    half.unlink(missing_ok=True)
            yield

    def cost(self, device: str, layers: Sequence[str]) -> float | None:
        """See :class:`Shelf`."""
        return _known_cost(self._costs().get(device, {}), layers)

    def set_cost(self, device: str, layers: Sequence[str], seconds: float) -> None:
        """See :class:`Shelf`."""
        costs = self._costs()
        costs.setdefault(device, {})[_joined(layers)] = seconds
        _write_text(self._folder / "cost.json", json.dumps(costs, indent=1))

    def _costs(self) -> dict[str, dict[str, float]]:
        try:
            return dict(json.loads((self._folder / "cost.json").read_text()))
        except (OSError, ValueError):
            return {}

    def _path(self, image: str, layer: str) -> Path:
        return self._folder / layer / f"{image}.npy"


class MemoryShelf:
    """Features in the memory of this process.

    Args:
        limit: bytes that all contexts of the process may take.
    """

    _used: ClassVar[
        dict[tuple[str, str], dict[str, NDArray[Any]]]
    ] = {}  # (context, image) -> maps, the latest use last
    _costs: ClassVar[dict[tuple[str, str], dict[str, float]]] = {}  # (context, device) -> layers -> seconds

    def __init__(self, context: Context, limit: int) -> None:
        self._context, self._limit = context.name, limit

    def read(self, image: str, layers: Sequence[str]) -> Maps | None:
        """See :class:`Shelf`."""
        key = self._context, image
        found = self._used.get(key, {})
        if any(layer not in found for layer in layers):
            return None
        self._used[key] = self._used.pop(key)
        return {layer: found[layer] for layer in layers}

    def write(self, image: str, maps: Maps) -> None:
        """See :class:`Shelf`."""
        self._used.setdefault((self._context, image), {}).update(maps)

    def make_room(self, size: int, needed: Iterable[str]) -> bool:
        """See :class:`Shelf`."""
        spared = {(self._context, image) for image in needed}
        sizes = {key: sum(values.nbytes for values in maps.values()) for key, maps in self._used.items()}
        evictable = [(key, length) for key, length in sizes.items() if key not in spared]
        return _evict(evictable, self._limit - sum(sizes.values()), size, self._used.__delitem__)

    @contextmanager
    def writing(self, images: Iterable[str]) -> Iterator[None]:
        """See :class:`Shelf`; a process has one run at a time."""
        del images
        yield

    def cost(self, device: str, layers: Sequence[str]) -> float | None:
        """See :class:`Shelf`."""
        return _known_cost(self._costs.get((self._context, device), {}), layers)

    def set_cost(self, device: str, layers: Sequence[str], seconds: float) -> None:
        """See :class:`Shelf`."""
        self._costs.setdefault((self._context, device), {})[_joined(layers)] = seconds


def _joined(layers: Sequence[str]) -> str:
    return ", ".join(layers)


def _known_cost(costs: Mapping[str, float], layers: Sequence[str]) -> float | None:
    for joined, seconds in costs.items():
        recorded = joined.split(", ")
        if recorded[-1] == layers[-1] and set(layers) <= set(recorded):
            return float(seconds)
    return None


def _features(directory: Path) -> Iterator[tuple[Path, float, int]]:
    """Yield path, last use and size of every stored file."""
    for path in directory.glob("*/*/[!.]*.npy"):
        with suppress(OSError):
            stat = path.stat()
            yield path, stat.st_mtime, stat.st_size


def _mapped(path: Path) -> NDArray[Any]:
    """Map a file into memory without keeping it open, as NumPy would: a category has more files than a process may.

    Raises:
        ValueError: when it is not a whole array.
    """
    import torch  # takes seconds, and whoever reads features has paid for it

    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{path} is not a feature map")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        start, length = file.tell(), os.fstat(file.fileno()).st_size
    if dtype.hasobject or fortran or length != start + dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{path} is not a whole feature map")
    values = torch.from_file(str(path), shared=False, size=length, dtype=torch.uint8).numpy()
    return values[start:].view(dtype).reshape(shape)


def _abandoned(half: Path) -> bool:
    """Whether the writer of a half file is dead; of a writer on another host, whether it has been silent for long."""
    host, _, pid = half.name.removeprefix(_ASIDE).partition("_")
    with suppress(OSError):
        if host != _WRITER.partition("_")[0]:
            return time.time() - half.stat().st_mtime > _SILENT_SECONDS
        os.kill(int(pid.partition("-")[0]), 0)
        return int(pid.partition("-")[0]) == os.getpid()
    return True


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a file to write to, which takes its place when all is written, and never half."""
    aside = path.with_name(f"{_ASIDE}{_WRITER}-{path.name}")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _write_text(path: Path, text: str) -> None:
    with _whole(path) as aside:
        aside.write_text(text)


def _evict(oldest_first: Sequence[tuple[_Entry, int]], free: int, size: int, drop: Callable[[_Entry], None]) -> bool:
    """Drop entries (with their bytes) until `size` bytes are free; none where all of them would not do."""
    if free + sum(length for _, length in oldest_first) < size:
        return False
    for entry, length in oldest_first:
        if free >= size:
            break
        with suppress(OSError):  # a file that is gone already, or held by a reader on Windows
            drop(entry)
            free += length
    return free >= size

"""Where feature maps are kept: one file an image and layer, named by content, so that everyone can share them.

    <directory>/<backbone>-<context>/context.json             what the context stands for, in words
    <directory>/<backbone>-<context>/cost.json                what extraction cost, by device
    <directory>/<backbone>-<context>/<layer>/<image>.npy      C×h×w

A file appears whole or not at all, and its name says what is in it: readers need no lock, two writers write the same.
One writer a set of images at a time is a matter of not doing work twice. The directory may lie on storage that hosts
share, or that can only be read (see `harness.features.files`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from numpy.typing import NDArray

from harness.features.files import FileMap, one_writer, show_life, sweep, write_array, write_text
from harness.identity import digest

STORE_VERSION = 1  # raise it when preprocessing or extraction changes the features of an unchanged context
_RESERVE = 2**30  # bytes of the disk that features never take

_Entry = TypeVar("_Entry")
Maps = Mapping[str, NDArray[Any]]  # layer -> C×h×w
Kept = Mapping[str, NDArray[Any] | FileMap]  # layer -> C×h×w, read from its file when it is used


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

    def read(self, image: str, layers: Sequence[str]) -> Kept | None:
        """Return the maps of an image (named by the hash of its content), or None unless all layers are there.

        Maps that lie in files are gone when another process makes room: `np.asarray` then raises `OSError`, or
        `ValueError` for a file that was damaged since.
        """

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
    """Features in files.

    Args:
        directory: of all contexts.
        context: what these features depend on.
        limit: bytes that the directory may take.
    """

    def __init__(self, directory: Path, context: Context, limit: int) -> None:
        self._directory, self._limit = directory, limit
        self._folder = directory / context.name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock: Path | None = None  # while it is held
        described = self._folder / "context.json"
        if not described.exists():
            with suppress(OSError):  # a store that may only be read
                write_text(described, json.dumps(asdict(context), indent=1))

    def read(self, image: str, layers: Sequence[str]) -> Kept | None:
        """See :class:`Shelf`; a file that is damaged counts as missing."""
        maps = {}
        for layer in layers:
            path = self._path(image, layer)
            try:
                maps[layer] = FileMap(path)
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
            write_array(path, values)
        if self._lock is not None:
            show_life(self._lock)

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
        lock = self._folder / f"writer-{digest(sorted(images))[:16]}.lock"
        with one_writer(lock):
            sweep(self._folder)
            self._lock = lock
            try:
                yield
            finally:
                self._lock = None

    def cost(self, device: str, layers: Sequence[str]) -> float | None:
        """See :class:`Shelf`."""
        return _known_cost(self._costs().get(device, {}), layers)

    def set_cost(self, device: str, layers: Sequence[str], seconds: float) -> None:
        """See :class:`Shelf`."""
        costs = self._costs()
        costs.setdefault(device, {})[_joined(layers)] = seconds
        write_text(self._folder / "cost.json", json.dumps(costs, indent=1))

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

"""Processes that use one feature store as hosts would that share its storage: they write, evict, read and compare.

Their host names and clocks are their own, and locks do not work between them unless they are to.

    python store_hosts.py FOLDER NAME LOCKS CLOCK READS
"""

from __future__ import annotations

import errno
import fcntl
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.features import files
from harness.features.store import Context, DiskShelf

CONTEXT = Context("resnet18:random-0", "size: 64", "float32", "cpu", "2.0")
LAYERS = ("l1", "l2")
SHAPE = (16, 40, 40)
IMAGES, FITTING = 40, 25  # as many are wanted, and fit
SETS = [range(start, start + 16) for start in (0, 8, 16, 24)]  # of images that are written together: each is in two
SIZE = len(LAYERS) * (4 * int(np.prod(SHAPE)) + 128)  # of an image, in bytes


class Result(NamedTuple):
    """How many images a host read and found right, how many were evicted as it read, and how often it had no room."""

    read: int
    evicted: int
    no_room: int


class Host:
    """A process that is a host of that name; it begins when it is told to go.

    Args:
        folder: of the store, as this host sees it.
        name: of the host.
        locks: `work`, `exclude nobody`, or the name of the error that asking for one gives.
        clock: seconds that its clock is ahead.
        reads: how many images it reads before it stops.
    """

    def __init__(self, folder: Path, name: str, locks: str, clock: float, reads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, str(folder), name, locks, str(clock), str(reads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until it is ready."""
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()

    def result(self) -> Result:
        """Wait for its end, which must be a good one."""
        said, _ = self._process.communicate(timeout=120)
        assert self._process.returncode == 0
        return Result(*map(int, said.split()))


def content(image: int) -> dict[str, np.ndarray]:
    """Return what an image's maps are: no two values of any two images are alike."""
    return {
        layer: np.random.default_rng([image, depth]).random(SHAPE, np.float32) for depth, layer in enumerate(LAYERS)
    }


def assert_all_whole(folder: Path) -> None:
    """Read every map there is, and compare it with what was to be written under its name."""
    own = DiskShelf(folder, CONTEXT, 10**12)
    found = list(folder.glob("*/l?/[!.]*.npy"))
    assert found
    for path in found:
        kept = own.read(path.stem, [path.parent.name])
        assert kept is not None
        (values,) = kept.values()
        np.testing.assert_array_equal(np.asarray(values), content(int(path.stem))[path.parent.name])


def main(folder: str, name: str, locks: str, clock: str, reads: str) -> None:
    """Be a host."""
    imitate(name, locks, float(clock))
    shelf, draw = DiskShelf(Path(folder), CONTEXT, FITTING * SIZE), random.Random(name)
    print("ready", flush=True)
    sys.stdin.readline()
    read = evicted = no_room = 0
    while read < int(reads):
        no_room += write(shelf, draw.choice(SETS))
        for image in draw.choices(range(IMAGES), k=30):
            found = shelf.read(str(image), LAYERS)
            if found is None:
                continue
            try:
                maps = {layer: np.asarray(values) for layer, values in found.items()}
            except OSError:  # in between
                evicted += 1
                continue
            for layer, values in content(image).items():
                np.testing.assert_array_equal(maps[layer], values)
            read += 1
    print(read, evicted, no_room)


def imitate(name: str, locks: str, clock: float) -> None:
    """Give this process a host's name, clock and locks."""
    now = time.time

    def broken(file: int, how: int) -> None:
        if hasattr(errno, locks):
            raise OSError(getattr(errno, locks), locks)

    socket.gethostname = lambda: name
    time.time = lambda: now() + clock
    if locks != "work":
        fcntl.flock = broken  # type: ignore[assignment]
    files.STANDSTILL_SECONDS, files._LOOK_SECONDS = 0.5, 0.05


def write(shelf: DiskShelf, images: range) -> int:
    """Write what is missing of some images; return for how many there was no room."""
    no_room, names = 0, [str(image) for image in images]
    with shelf.writing(names):
        for image in images:
            if shelf.read(str(image), LAYERS) is None:
                no_room += not shelf.make_room(SIZE, names)
                shelf.write(str(image), content(image))
    return no_room


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The store by itself: whole files or none, the least recently used go first, many processes at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.features.store import Context, DiskShelf, MemoryShelf, Shelf

CONTEXT = Context("resnet18:random-0", "size: 64", "float32", "cpu", "2.0")
LAYERS = ["layer2", "layer3"]
SIZE = 2 * 4 * 100  # bytes of an image's maps


def maps(value: float) -> dict[str, np.ndarray]:
    return {layer: np.full((4, 5, 5), value, np.float32) for layer in LAYERS}


def shelf(kind: str, folder: Path, limit: int = 10**6, context: Context = CONTEXT) -> Shelf:
    return MemoryShelf(context, limit) if kind == "memory" else DiskShelf(folder, context, limit)


@pytest.fixture(params=["disk", "memory"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(MemoryShelf, "_used", {})
    monkeypatch.setattr(MemoryShelf, "_costs", {})
    return request.param


def test_what_is_written_is_read_by_layer(kind: str, tmp_path: Path) -> None:
    own = shelf(kind, tmp_path)
    assert own.read("a", LAYERS) is None
    own.write("a", {"layer2": maps(1)["layer2"]})
    assert own.read("a", LAYERS) is None
    own.write("a", {"layer3": maps(2)["layer3"]})
    found = own.read("a", ["layer3", "layer2"])
    assert found is not None and list(found) == ["layer3", "layer2"]
    np.testing.assert_array_equal(found["layer3"], maps(2)["layer3"])


@pytest.mark.parametrize("field", ["weights", "preprocess", "dtype", "device", "library"])
def test_another_context_shares_nothing(kind: str, field: str, tmp_path: Path) -> None:
    shelf(kind, tmp_path).write("a", maps(1))
    changed = Context(**(vars(CONTEXT) | {field: "resnet18:other"}))
    assert shelf(kind, tmp_path, context=changed).read("a", LAYERS) is None


def test_least_recently_used_go_first_and_needed_ones_stay(kind: str, tmp_path: Path) -> None:
    own = shelf(kind, tmp_path)
    for age, image in enumerate("abcd"):
        own.write(image, maps(age))
        for layer in LAYERS if kind == "disk" else ():
            past = time.time() - 100 + age
            os.utime(tmp_path / CONTEXT.name / layer / f"{image}.npy", (past, past))
    assert own.read("a", LAYERS) is not None  # used now: the youngest
    length = SIZE if kind == "memory" else SIZE + 2 * 128  # a file has a header
    small = shelf(kind, tmp_path, limit=3 * length)
    assert small.make_room(length, needed=["b"])
    assert [image for image in "abcd" if own.read(image, LAYERS)] == ["a", "b"]
    assert not small.make_room(4 * length, needed=["a", "b"])
    assert own.read("a", LAYERS) and own.read("b", LAYERS)


def test_what_cannot_fit_drives_nothing_out(kind: str, tmp_path: Path) -> None:
    own = shelf(kind, tmp_path, limit=3000)
    own.write("a", maps(1))
    assert not own.make_room(4000, needed=[])
    assert own.read("a", LAYERS) is not None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where Linux lists them")
def test_files_are_not_kept_open(tmp_path: Path) -> None:
    """A category has more files than many systems let a process open."""
    own = shelf("disk", tmp_path)
    for image in range(30):
        own.write(str(image), maps(image))
    before = len(os.listdir("/proc/self/fd"))
    found = [own.read(str(image), LAYERS) for image in range(30)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert all(maps is not None and (np.asarray(maps["layer3"]) == image).all() for image, maps in enumerate(found))
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize("damage", ["evicted", "truncated"])
def test_what_is_gone_when_it_is_used_is_told(damage: str, tmp_path: Path) -> None:
    own = shelf("disk", tmp_path)
    own.write("a", maps(1))
    found = own.read("a", LAYERS)
    assert found is not None
    path = tmp_path / CONTEXT.name / "layer2" / "a.npy"
    path.unlink() if damage == "evicted" else os.truncate(path, 200)
    with pytest.raises((FileNotFoundError, ValueError)):
        np.asarray(found["layer2"])
    assert (np.asarray(found["layer3"]) == 1).all()


def test_the_limit_is_for_all_contexts(tmp_path: Path) -> None:
    other = Context(**(vars(CONTEXT) | {"library": "1.0"}))
    shelf("disk", tmp_path, context=other).write("a", maps(1))
    assert shelf("disk", tmp_path, limit=1200).make_room(1100, needed=["a"])
    assert shelf("disk", tmp_path, context=other).read("a", LAYERS) is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle"])
def test_a_damaged_file_counts_as_missing(damage: str, tmp_path: Path) -> None:
    own = shelf("disk", tmp_path)
    own.write("a", maps(1))
    path = tmp_path / CONTEXT.name / "layer2" / "a.npy"
    if damage == "pickle":
        with path.open("wb") as file:
            np.save(file, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    else:
        path.write_bytes({"truncated": path.read_bytes()[:-40], "empty": b"", "text": b"hello"}[damage])
    assert own.read("a", LAYERS) is None
    own.write("a", maps(1))
    assert own.read("a", LAYERS) is not None


def test_costs_are_kept_by_device_and_layers(kind: str, tmp_path: Path) -> None:
    shelf(kind, tmp_path).set_cost("cpu", LAYERS, 0.5)
    assert shelf(kind, tmp_path).cost("cpu", LAYERS) == 0.5
    assert shelf(kind, tmp_path).cost("cpu", ["layer3"]) == 0.5  # the network runs as far
    assert shelf(kind, tmp_path).cost("cpu", ["layer2"]) is None
    assert shelf(kind, tmp_path).cost("cpu", ["layer1", "layer3"]) is None
    assert shelf(kind, tmp_path).cost("gpu", LAYERS) is None


WRITER = """
import sys
from pathlib import Path
import numpy as np
from harness.features.store import Context, DiskShelf
shelf = DiskShelf(Path(sys.argv[1]), Context("resnet18:random-0", "size: 64", "float32", "cpu", "2.0"), 10**12)
print("ready", flush=True)
with shelf.writing([sys.argv[2]]):
    for image in range(int(sys.argv[2])):
        shelf.write(str(image), {"layer2": np.full((200, 200, 20), image, np.float32)})
"""


def start_writer(folder: Path, images: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(images)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_killed_in_the_middle_of_writing_leaves_no_half_features(tmp_path: Path) -> None:
    moments = random.Random(3)
    own = DiskShelf(tmp_path, CONTEXT, 10**12)
    halves = 0
    for _ in range(5):
        process = start_writer(tmp_path, 1000)
        time.sleep(moments.uniform(0.01, 0.08))
        process.send_signal(signal.SIGKILL)
        process.wait()
        halves += len(list(tmp_path.glob("*/*/.writing-*")))
        for path in (tmp_path / CONTEXT.name / "layer2").glob("[0-9]*.npy"):
            found = own.read(path.stem, ["layer2"])
            assert found is not None and (np.asarray(found["layer2"]) == int(path.stem)).all()
    with own.writing([]):
        assert not list(tmp_path.glob("*/*/.writing-*"))


def test_several_processes_write_and_read_at_once(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, 30) for _ in range(3)]
    own = DiskShelf(tmp_path, CONTEXT, 10**12)
    seen = 0
    while any(writer.poll() is None for writer in writers):
        for image in range(30):
            found = own.read(str(image), ["layer2"])
            assert found is None or (np.asarray(found["layer2"]) == image).all()
            seen += found is not None
    assert seen and all(writer.returncode == 0 for writer in writers)

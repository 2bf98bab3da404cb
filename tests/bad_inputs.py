"""What people bring by mistake, or to do harm: each builder spoils a folder in which everything was sound."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from commands import environment, run_command
from PIL import Image
from safetensors.numpy import save_file

Build = Callable[[Path], object]

PART = Path("photos", "part")
IMAGE = PART / "train" / "good" / "000.png"
MASK = PART / "ground_truth" / "crack" / "000_mask.png"
CONFIG = PART / "defects_config.json"
TABLE = PART / "metadata.csv"
WEIGHTS = Path("weights.pth")
STORE = Path("runs", "mlflow.db")


def nothing(here: Path) -> None:
    """The folder as it is."""


def all_of(*builds: Build) -> Build:
    return lambda here: [build(here) for build in builds]


# Images


def photo(path: Path, seed: int, size: tuple[int, int] = (24, 16)) -> None:
    """Random pixels; size is width, height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def sound(part: Path) -> None:
    """A category with nothing wrong: 4 images to train on, 2 good and 2 cracked ones with masks to test."""
    for i in range(4):
        photo(part / "train" / "good" / f"{i:03d}.png", i)
    for i in range(2):
        photo(part / "test" / "good" / f"{i:03d}.png", 10 + i)
        photo(part / "test" / "crack" / f"{i:03d}.png", 20 + i)
        mask = np.zeros((16, 24), np.uint8)
        mask[2:8, 3:9] = 255
        save(mask, Path("ground_truth", "crack", f"{i:03d}_mask.png"))(part)


def save(pixels: Any, path: Path, kind: str = "uint8", mode: str | None = None) -> Build:
    """Write an image over what is there: pixels of a NumPy type, perhaps converted to another mode of Pillow's."""

    def build(here: Path) -> None:
        image = Image.fromarray(np.asarray(pixels, kind))
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (image.convert(mode) if mode else image).save(here / path)

    return build


def every_image_of(depth: int) -> Build:
    """All images as a camera of so many bits writes them, in 16-bit files whose values nobody has scaled."""

    def build(here: Path) -> None:
        for path in sorted((here / PART).glob("t*/*/*.png")):
            grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
            Image.fromarray(grey << (depth - 8)).save(path)

    return build


def frames(path: Path, count: int = 3, **options: Any) -> Build:
    def build(here: Path) -> None:
        shown = [Image.new("RGB", (24, 16), (80 * i, 0, 0)) for i in range(count)]
        shown[0].save(here / path, save_all=True, append_images=shown[1:], **options)

    return build


def bomb(here: Path) -> None:
    """A PNG of a few kilobytes that says it has 3600 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(2_000_000))
    (here / IMAGE).write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def transparent_mask(here: Path) -> None:
    pixels = np.full((16, 24, 4), 255, np.uint8)
    pixels[4:, :, 3] = 0
    save(pixels, MASK)(here)


# Files and folders


def write(path: Path, content: str | bytes) -> Build:
    data = content.encode() if isinstance(content, str) else content
    return lambda here: (here / path).write_bytes(data)


def cut(path: Path, share: float = 0.5) -> Build:
    def build(here: Path) -> None:
        whole = (here / path).read_bytes()
        (here / path).write_bytes(whole[: int(share * len(whole))])

    return build


def remove(path: Path) -> Build:
    def build(here: Path) -> None:
        shutil.rmtree(here / path) if (here / path).is_dir() else (here / path).unlink()

    return build


def copy(path: Path, to: Path) -> Build:
    def build(here: Path) -> None:
        (here / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here / path, here / to)

    return build


def link(path: Path, to: str) -> Build:
    return lambda here: (here / path).symlink_to(to)


def folder(path: Path) -> Build:
    return lambda here: (here / path).mkdir(parents=True)


def forbid(path: Path, mode: int = 0) -> Build:
    return lambda here: (here / path).chmod(mode)


def no_utf8(here: Path) -> None:
    os.rename(here / IMAGE, os.fsencode(here / IMAGE.parent) + b"/\xfftile.png")


def control_characters(here: Path) -> None:
    """A name that would rewrite the title of the terminal."""
    (here / IMAGE).rename(here / IMAGE.with_name("\x1b]0;gotcha\x07.png"))


def defects(**changes: Any) -> Build:
    """A `defects_config.json` with one entry for the masks of `sound`, changed."""
    entry = {"defect_name": "crack", "pixel_value": 255, "saturation_threshold": 10, "relative_saturation": False}
    return write(CONFIG, json.dumps([{key: value for key, value in (entry | changes).items() if value is not ...}]))


# Weights


class _Harm:
    """Unpickled, it makes a folder of this name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._name,)


def harm(here: Path) -> None:
    """A pickle that makes the folder `harmed`."""
    (here / WEIGHTS).write_bytes(pickle.dumps({"conv1.weight": _Harm("harmed")}))


def harm_zipped(here: Path) -> None:
    """The same in the format of today's `torch.save`."""
    with zipfile.ZipFile(here / WEIGHTS, "w") as archive:
        archive.writestr("weights/data.pkl", pickle.dumps({"conv1.weight": _Harm("harmed")}, protocol=2))
        archive.writestr("weights/byteorder", "little")
        archive.writestr("weights/version", "3\n")


def other_network(here: Path) -> None:
    save_file({"blocks.0.attn.qkv.weight": np.zeros((3, 3), np.float32)}, here / WEIGHTS.with_suffix(".safetensors"))


# Stores


def sql(*statements: str, path: Path = STORE) -> Build:
    def build(here: Path) -> None:
        with sqlite3.connect(here / path) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return build


def damaged(path: Path) -> Build:
    """A file with its middle overwritten, as after a crash of a disk."""

    def build(here: Path) -> None:
        data = bytearray((here / path).read_bytes())
        third = len(data) // 3
        data[third : 2 * third] = np.random.default_rng(0).bytes(third)
        (here / path).write_bytes(data)

    return build


# Commands

CHAOS = Path(__file__).with_name("chaos")
PHOTOS = (
    "dataset=folder dataset.root=photos category=part preprocess=pad preprocess.size=32 metrics.heatmaps=0 "
    "method=padim backbone=resnet18 backbone.weights=random"
)


def told(here: Path, module: str, typed: str, obedient: bool = False, **env: str) -> tuple[int, str]:
    """Run a command; return its exit code and what it says on standard error.

    `obedient`: what permissions forbid is forbidden to root too.
    """
    words = shlex.split(typed)
    flags = [word for word in words if word.startswith("-")]
    before = shlex.split(PHOTOS) if module == "harness" else []
    arguments = [*flags, *before, *(word for word in words if word not in flags)]
    if obedient:
        arguments, module = ['{"obedient": true}', module, *arguments], "chaos_child"
        env["PYTHONPATH"] = os.pathsep.join([str(CHAOS), os.environ.get("PYTHONPATH", "")])
    done = run_command(arguments, module, cwd=here, env=environment(**env), timeout=120)
    return done.returncode, done.stderr


def trust_weights(here: Path) -> None:
    """Make the runs of a store ones whose accuracy reports print, which those on random weights are not."""
    sql("UPDATE tags SET value = 'resnet18:file-0123456789abcdef' WHERE key = 'harness.weights'")(here)

"""The embedded toy data: three small inspection tasks, and one with metadata, drawn on first use, alike everywhere.

Layout as on a real disk: MVTec masks for `granite_tile` (`<stem>_mask.png`) and `conveyor_rail`
(`<stem>.png`), one file a region and a `defects_config.json` for `bolted_plate`, as in AutoVI.
"""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.data.aside import make_folder

VERSION = "toy-2"  # raise with every change of a pixel: the test of the fingerprints tells
TRAIN, GOOD = 40, 12


def categories() -> list[str]:
    """Names of the categories, sorted; known before they are drawn."""
    from harness.data.toy_labels import NAME
    from harness.data.toy_scenes import SCENES

    return sorted([NAME, *SCENES])


def folder_in(root: Path) -> Path:
    """The folder that holds the categories, whether they are drawn or not."""
    return root / VERSION


def generate(root: Path) -> Path:
    """Make sure that the toy data exist and return the folder that holds the categories."""
    folder = folder_in(root)
    if not folder.is_dir():
        make_folder(folder, _draw)
    return folder


def _draw(folder: Path) -> None:
    from harness.data.toy_labels import NAME, draw_labels
    from harness.data.toy_scenes import SCENES

    draw_labels(folder / NAME, _write_png)
    for number, (name, scene) in enumerate(SCENES.items()):
        root = folder / name
        jobs = [("train", "good", TRAIN), ("test", "good", GOOD)]
        jobs += [("test", defect, count) for defect, count in scene.defects.items()]
        for job, (split, defect, count) in enumerate(jobs):
            for i in range(count):
                image, covers = scene.draw(np.random.default_rng([number, job, i]), defect)
                _write_png(root / split / defect / f"{i:03d}.png", image)
                masks = [cover > 0.3 for cover in covers]
                value = list(scene.defects).index(defect) + 1 if defect != "good" else 0
                _write_masks(root / "ground_truth" / defect, f"{i:03d}", name, masks, value)
        if scene.saturation:
            entries = [
                {
                    "defect_name": defect,
                    "pixel_value": value + 1,
                    "saturation_threshold": scene.saturation[defect][0],
                    "relative_saturation": scene.saturation[defect][1],
                }
                for value, defect in enumerate(scene.defects)
            ]
            (root / "defects_config.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def _write_masks(folder: Path, stem: str, category: str, masks: list[npt.NDArray[np.bool_]], value: int) -> None:
    if category == "bolted_plate":
        for region, mask in enumerate(masks):
            _write_png(folder / stem / f"{region:03d}.png", mask.astype(np.uint8) * value)
    elif masks:
        union = np.logical_or.reduce(masks).astype(np.uint8) * 255
        _write_png(folder / (f"{stem}_mask.png" if category == "granite_tile" else f"{stem}.png"), union)


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write uint8 H×W or H×W×3 as an uncompressed PNG: compressed bytes differ between versions of zlib."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape[:2]
    raw = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1).tobytes()
    blocks = [raw[i : i + 65535] for i in range(0, len(raw), 65535)]
    stream = b"\x78\x01"
    for i, block in enumerate(blocks):
        stream += struct.pack("<BHH", i == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
    stream += struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)

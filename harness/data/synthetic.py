"""Synthetic defects in copies of normal images: a validation set with both kinds of images where no defect is at hand.

Each is a region of the image that gets recoloured pixels from elsewhere in a normal image:

- `synthetic_cutpaste`: a rectangle of 2 to 15 % of the image (CutPaste: Li et al., CVPR 2021);
- `synthetic_scar`: a thin turned rectangle, 2 to 16 by 10 to 25 pixels of 256 (its CutPaste-Scar);
- `synthetic_blob`: a cloud of thresholded noise, blended in (after the masks of DRAEM: Zavrtanik et al., ICCV 2021;
  ours: value noise in place of Perlin's, normal images in place of textures, opacity from 0.4).

They tell little about real defects, and nothing about logical ones: they choose epochs and thresholds, no result is
measured on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from harness.data.aside import make_folder
from harness.data.masks import load_sample
from harness.data.records import Sample
from harness.data.toy_drawing import noise
from harness.errors import DataError

SYNTHETIC_VERSION = 1  # raise it with every change of a pixel: it is part of a run's identity
SMALLEST, LARGEST = 0.0005, 0.15  # share of the image that a region covers
VISIBLE = 8.0  # mean change inside a region, in 8-bit grey values: less would be no defect
_TRIES = 50

Region = npt.NDArray[np.bool_]
Rng = np.random.Generator


def damage(normals: Sequence[Sample], seed: int, folder: Path) -> tuple[Sample, ...]:
    """Return a damaged copy of every normal image, with its mask; drawn on first use, the same for the same seed.

    Args:
        normals: good images, in any order.
        seed: of all draws.
        folder: where the copies lie, in MVTec layout; what is there is taken as it is. Its name must tell images and
            seed apart: it is part of the copies' names, by which images are kept in memory.

    Raises:
        DataError: when no defect can be drawn that shows, as in images of one grey value.
        OSError: when the folder cannot be written.
    """
    normals = sorted(normals, key=lambda sample: sample.name)
    kinds = [list(_REGIONS)[i % len(_REGIONS)] for i in range(len(normals))]
    if not folder.is_dir():
        make_folder(folder, partial(_draw_all, normals, kinds, seed, folder.name))
    return tuple(_sample(folder, folder.name, normal, kind) for normal, kind in zip(normals, kinds, strict=True))


def _sample(folder: Path, draw: str, normal: Sample, kind: str) -> Sample:
    stem = f"{normal.name.replace('/', '_').replace('.', '_')}_{draw}"
    name, mask = f"validation/{kind}/{stem}.png", folder / "ground_truth" / kind / f"{stem}_mask.png"
    return Sample(folder / name, name, "validation", kind, (mask,), synthetic=True)


def _draw_all(normals: Sequence[Sample], kinds: Sequence[str], seed: int, draw: str, folder: Path) -> None:
    for index, (normal, kind) in enumerate(zip(normals, kinds, strict=True)):
        rng = np.random.default_rng([seed, index])
        donor = load_sample(normals[int(rng.integers(len(normals)))])
        image, mask = _damaged(load_sample(normal), donor, kind, rng, normal)
        copy = _sample(folder, draw, normal, kind)
        for path, pixels in ((copy.path, image), (copy.masks[0], mask.astype(np.uint8) * 255)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, compress_level=1)


def _damaged(
    image: npt.NDArray[np.uint8], donor: npt.NDArray[np.uint8], kind: str, rng: Rng, normal: Sample
) -> tuple[npt.NDArray[np.uint8], Region]:
    if kind != "synthetic_blob" or donor.shape != image.shape:
        donor = image
    for _ in range(_TRIES):
        region = _REGIONS[kind](image.shape[:2], rng)
        if not SMALLEST <= region.mean() <= LARGEST:
            continue
        pasted = _recoloured(_moved(donor, rng), rng)
        opacity = rng.uniform(0.4, 1.0) if kind == "synthetic_blob" else 1.0
        changed = image.astype(np.float64)
        changed[region] += opacity * (pasted[region] - changed[region])
        damaged = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        if np.abs(damaged[region].astype(np.float64) - image[region]).mean() >= VISIBLE:
            return damaged, region
    raise DataError(f"No synthetic defect would show in {normal.path}: choose protocol=validated, with real defects.")


def _moved(image: npt.NDArray[np.uint8], rng: Rng) -> npt.NDArray[np.uint8]:
    """Shift an image around its edges: what then lies under a region comes from elsewhere."""
    height, width = image.shape[:2]
    return np.roll(image, (int(rng.integers(height)), int(rng.integers(width))), axis=(0, 1))


def _recoloured(image: npt.NDArray[np.uint8], rng: Rng) -> npt.NDArray[np.float64]:
    """Change brightness and contrast, of each channel by itself unless the image is grey."""
    gain, shift = rng.uniform(0.8, 1.2, 3), rng.uniform(-25, 25, 3)
    if (image[..., :1] == image).all():
        gain, shift = gain[:1], shift[:1]
    return image * gain + shift


def _box(shape: tuple[int, int], rng: Rng, half: tuple[float, float], degrees: float) -> Region:
    """A turned box of half height and half width, its centre anywhere but at the image edge, where the object ends."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    dy, dx = (axis - rng.uniform(0.1, 0.9) * length for axis, length in zip((y, x), shape, strict=True))
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    box: Region = (np.abs(c * dy - s * dx) <= half[0]) & (np.abs(s * dy + c * dx) <= half[1])
    return box


def _cutpaste(shape: tuple[int, int], rng: Rng) -> Region:
    area = rng.uniform(0.02, LARGEST) * shape[0] * shape[1]
    aspect = rng.uniform(0.3, 1.0) ** rng.choice([-1, 1])
    return _box(shape, rng, (math.sqrt(area * aspect) / 2, math.sqrt(area / aspect) / 2), 0.0)


def _scar(shape: tuple[int, int], rng: Rng) -> Region:
    scale = min(shape) / 256 / 2
    return _box(shape, rng, (rng.uniform(2, 16) * scale, rng.uniform(10, 25) * scale), rng.uniform(-45, 45))


def _blob(shape: tuple[int, int], rng: Rng) -> Region:
    """One of the clouds where noise is high."""
    clouds, count = ndimage.label(noise(rng, shape, min(shape) / 2 ** rng.uniform(1, 4)) > 0.4)
    cloud: Region = clouds == rng.integers(1, max(count, 1) + 1)
    return cloud


_REGIONS: dict[str, Callable[[tuple[int, int], Rng], Region]] = {
    "synthetic_cutpaste": _cutpaste,
    "synthetic_scar": _scar,
    "synthetic_blob": _blob,
}

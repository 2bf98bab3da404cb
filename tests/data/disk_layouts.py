"""Writes small real data sets to disk, in the layouts that the readers know."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.schema import DatasetConfig


def dataset(root: Path | str | None, layout: str = "mvtec", **kwargs: Any) -> DatasetConfig:
    return DatasetConfig(layout=layout, root=None if root is None else str(root), **kwargs)


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (24, 16)) -> Path:
    """Random RGB pixels; size is width, height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_mask(
    path: Path, boxes: list[tuple[int, int, int, int]], value: int = 255, size: tuple[int, int] = (24, 16)
) -> Path:
    """A grey mask with boxes (left, top, right, bottom) of a value."""
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path

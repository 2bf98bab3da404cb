"""Tiny images and models for the model tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

SIZE = 64
MakeImages = Callable[[int, int, bool], torch.Tensor]


def _grating(generator: np.random.Generator) -> np.ndarray:
    """A normal image: diagonal stripes of random phase with a little pixel noise, values in [0, 1]."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    stripes = 0.5 + 0.25 * np.sin((rows + columns) / 3 + generator.uniform(0, 2 * np.pi))
    image = np.repeat(stripes[..., None], 3, axis=2) + generator.normal(0, 0.01, (SIZE, SIZE, 3))
    return np.clip(image, 0, 1)


def _damage(image: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The image with a square of coloured noise, and the square's mask."""
    row, column = generator.integers(8, SIZE - 28, 2)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[row : row + 20, column : column + 20] = True
    damaged = image.copy()
    damaged[mask] = generator.uniform(0, 1, (int(mask.sum()), 3))
    return damaged, mask


def _make_images(seed: int, count: int, damaged: bool) -> torch.Tensor:
    """Return `count` images (count, 3, 64, 64), normalised as ImageNet's."""
    generator = np.random.default_rng(seed)
    images = [_grating(generator) for _ in range(count)]
    if damaged:
        images = [_damage(image, generator)[0] for image in images]
    tensor = torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2)
    return (tensor - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / 0.225


@pytest.fixture
def make_images() -> MakeImages:
    """Call it with a seed, a number and whether the images are damaged."""
    return _make_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category in MVTec layout: 8 normal training images, 4 normal and 4 damaged test images."""
    root = tmp_path_factory.mktemp("category")
    generator = np.random.default_rng(0)
    for name, count in (("train/good", 8), ("test/good", 4), ("test/hole", 4)):
        (root / name).mkdir(parents=True)
        for index in range(count):
            image, mask = _grating(generator), None
            if name == "test/hole":
                image, mask = _damage(image, generator)
            Image.fromarray((image * 255).astype(np.uint8)).save(root / name / f"{index:03}.png")
            if mask is not None:
                path = root / "ground_truth/hole" / f"{index:03}_mask.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return root


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)

"""Stand-ins for weights and images that cannot be had: untrained networks and drawn textures, the same everywhere.

They are written once, aside and renamed into place, so that a killed or a second process leaves nothing half done.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn

VERSION = 0  # raise it with every change of a stand-in: it is in the run key
SIDE = 256  # pixels of a texture
CLASSES, TEXTURES = 3, 6  # folders of them, and textures in each


def create(name: str, size: str, directory: Path) -> Path:
    """Make sure that the stand-in of an item exists below a directory, and return its file or folder.

    Args:
        name: of the item.
        size: of EfficientAD's teacher: small or medium.
        directory: of all stand-ins.
    """
    if name in ("dtd", "imagenette"):
        return _place(directory / f"{name}-{VERSION}", lambda draft: _draw_textures(draft, name))
    if name == "dsr_dictionary":
        return _place(directory / f"{name}-{VERSION}.pth", lambda draft: _save(_dictionary, draft))
    return _place(directory / f"{name}_{size}-{VERSION}.pth", lambda draft: _save(lambda: _teacher(size), draft))


def _place(path: Path, write: Callable[[Path], None]) -> Path:
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        write(folder / path.name)
        os.rename(folder / path.name, path)
    except OSError:
        if not path.exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return path


def _save(build: Callable[[], nn.Module], path: Path) -> None:
    """Save a network's initial weights, drawn with a seed of their own."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(VERSION)
        torch.save(build().state_dict(), path)


def _teacher(size: str) -> nn.Module:
    from anomalib.models.image.efficient_ad.torch_model import (
        MediumPatchDescriptionNetwork,
        SmallPatchDescriptionNetwork,
    )

    network = MediumPatchDescriptionNetwork if size == "medium" else SmallPatchDescriptionNetwork
    return network(out_channels=384)


def _dictionary() -> nn.Module:
    from anomalib.models.image.dsr.torch_model import DsrModel

    return DsrModel().discrete_latent_model


def _draw_textures(folder: Path, name: str) -> None:
    """Draw coloured noise with the spectrum of natural images, each class with a direction and a coarseness of its own.

    In folders by class, as torchvision's ImageFolder wants them.
    """
    from PIL import Image

    for kind in range(CLASSES):
        (folder / f"class_{kind}").mkdir(parents=True)
        for number in range(TEXTURES):
            generator = np.random.default_rng([VERSION, len(name), kind, number])
            pixels = _texture(generator, angle=np.pi * kind / CLASSES, slope=0.8 + 0.3 * kind)
            Image.fromarray(pixels).save(folder / f"class_{kind}" / f"{number:03d}.png")


def _texture(generator: np.random.Generator, angle: float, slope: float) -> npt.NDArray[np.uint8]:
    """Return uint8 SIDE×SIDE×3: noise whose amplitude falls with frequency^slope, slower across `angle`."""
    rows, columns = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    along = rows * np.cos(angle) + columns * np.sin(angle)
    across = columns * np.cos(angle) - rows * np.sin(angle)
    radius = np.maximum(np.hypot(along, 3 * across), 1 / SIDE)
    noise = np.fft.ifft2(np.fft.fft2(generator.standard_normal((4, SIDE, SIDE))) / radius**slope).real
    noise /= noise.std(axis=(1, 2), keepdims=True)
    image = 0.7 * noise[:1] + 0.5 * noise[1:]  # channels correlated, as colours are
    tint = generator.uniform(0.3, 0.7, (3, 1, 1))
    return (np.clip(tint + 0.15 * image, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)

"""What pages speak of and the repository does not have: images in the layouts of real data sets, a file of weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.data.toy import generate

AUTOVI = ("engine_wiring", "pipe_clip", "pipe_staple", "tank_screw", "underbody_pipes", "underbody_screw")


def furnish(folder: Path, page: str, toy: Path | None = None) -> None:
    """Put into `folder` what the commands of a page need and do not make themselves.

    Args:
        folder: of the page.
        page: its text.
        toy: where the embedded images are drawn; in `folder` without it.
    """
    if "dataset.root=photos" in page and "rename('photos')" not in page:
        shutil.copytree(_drawn(folder, toy), folder / "photos")
    if "dataset.root=AutoVI" in page:
        for name in AUTOVI:  # the one toy category in AutoVI's layout
            shutil.copytree(_drawn(folder, toy) / "bolted_plate", folder / "AutoVI" / name)
    if " hub\n" in page:
        write_weights(folder / "weights.safetensors")


def write_weights(path: Path) -> None:
    """Write a ResNet18 with weights that are none: as a file they are taken for real ones."""
    import timm
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("resnet18").state_dict(), path)


def _drawn(folder: Path, toy: Path | None) -> Path:
    return generate(toy or folder / "toy")

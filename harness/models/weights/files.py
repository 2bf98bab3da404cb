"""Files of weights and folders of images: named by content, loaded without ever running code of theirs."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.fingerprint import file_hash
from harness.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff", ".webp")


def load_state(path: Path) -> dict[str, Tensor]:
    """Load a state dict, tensors only: safetensors, or a torch file without code (whatever its suffix).

    Raises:
        WeightsError: for a file that cannot be read, holds code, or holds no state dict.
    """
    try:
        state = _read(path)
    except Exception as error:
        reason = " ".join(str(error).split())
        if "Weights only load failed" in reason:
            raise WeightsError(
                f"Weights {path} are not tensors alone{_culprit(reason)}: the file is damaged, or holds code, which is "
                "never run; give a state dict as .safetensors or .pth."
            ) from error
        raise WeightsError(
            f"Weights {path} cannot be read ({reason[:200]}); give a state dict as .safetensors or .pth."
        ) from error
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        raise WeightsError(f"Weights {path} hold no state dict; give one as .safetensors or .pth.")
    return state


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _culprit(reason: str) -> str:
    """Return what torch found in the file, in brackets, where it says so."""
    _, found, rest = reason.partition("GLOBAL ")
    return f" ({rest.split()[0]})" if found and rest else ""


def state_hash(state: dict[str, Tensor]) -> str:
    """Return 16 hex digits over names and values of tensors."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def file_id(path: Path) -> str:
    """Name a file by content: `file-<16 hex digits of its SHA-256>`; hashed once a process."""
    return f"file-{file_hash(path.absolute())[:16]}"


@cache
def folder_id(folder: Path) -> str:
    """Name a folder by its images, their paths below it and their content: `folder-<16 hex digits>`; once a process.

    Raises:
        WeightsError: for a folder without images.
    """
    rows = [(path.relative_to(folder).as_posix(), file_hash(path)) for path in images_in(folder)]
    return f"folder-{hashlib.sha256(repr(rows).encode()).hexdigest()[:16]}"


@cache
def images_in(folder: Path) -> tuple[Path, ...]:
    """Return the images below a folder in the order of their paths; listed once a process.

    Raises:
        WeightsError: where there is none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file())
    if not found:
        raise WeightsError(f"There is no image in {folder}; point to the folder that holds the images of the data set.")
    return tuple(found)

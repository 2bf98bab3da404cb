"""A sound category on disk."""

from pathlib import Path

import pytest
from disk_layouts import write_image, write_mask


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    """A root with one sound category `part`: 3 train, 2 good, 2 `crack` with masks of both namings."""
    part = tmp_path / "set" / "part"
    for i in range(3):
        write_image(part / "train" / "good" / f"{i:03d}.png", seed=i)
    for i in range(2):
        write_image(part / "test" / "good" / f"{i:03d}.png", seed=10 + i)
        write_image(part / "test" / "crack" / f"{i:03d}.png", seed=20 + i)
    write_mask(part / "ground_truth" / "crack" / "000_mask.png", [(2, 2, 6, 6)])
    write_mask(part / "ground_truth" / "crack" / "001.png", [(0, 0, 3, 3), (10, 10, 14, 12)])
    return part.parent

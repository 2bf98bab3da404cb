"""The documentation's own tools, and a folder with what its commands need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "docs" / "tools"))


@pytest.fixture(scope="session")
def furnished(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images in the layouts that the pages speak of, without copies."""
    from furnish import AUTOVI

    drawn = next(toy_root.iterdir())
    folder = tmp_path_factory.mktemp("furnished")
    (folder / "photos").symlink_to(drawn)
    (folder / "runs").mkdir()
    (folder / "runs" / "toy").symlink_to(toy_root)
    (folder / "AutoVI").mkdir()
    for name in AUTOVI:
        (folder / "AutoVI" / name).symlink_to(drawn / "bolted_plate")
    return folder

"""Folders that are drawn on first use: whole or not at all, whoever else draws them."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def make_folder(folder: Path, draw: Callable[[Path], None]) -> None:
    """Fill a draft beside the folder and rename it, so that a killed or a second process leaves nothing half done.

    Raises:
        OSError: when it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draw(draft)
        draft.chmod(0o755)
        os.rename(draft, folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster: its files are ours
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)

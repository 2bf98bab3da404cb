"""Data identified by content: the same pixels give the same runs, wherever they lie."""

import hashlib
import json
from functools import cache
from pathlib import Path

from harness.data.masks import is_region_file
from harness.data.records import Category, Sample
from harness.errors import DataError


def fingerprint(category: Category) -> str:
    """Hash (24 hex digits) of every image, mask, turn and saturation threshold, with sample names and splits.

    Independent of where the category lies and of the order in which a file system lists it. File hashes are
    kept for the life of the process, by path, size and modification time.
    """
    rows = [
        [s.name, s.split, s.defect, image_hash(s), *(_mask_identity(mask) for mask in s.masks)]
        for s in sorted(category.samples, key=lambda s: s.name)
    ]
    defects = [list(category.defects[value]) for value in sorted(category.defects)]
    text = json.dumps([rows, defects], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _mask_identity(mask: Path) -> str:
    """A file that is one region and a mask that falls into its components mean different things."""
    return ("region:" if is_region_file(mask) else "mask:") + file_hash(mask)


def image_hash(sample: Sample) -> str:
    """Hash of an image as it is used: its file, and how it is turned."""
    return file_hash(sample.path) + (f"-turned-{sample.turns}" if sample.turns else "")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    try:
        stat = path.stat()
        return _file_hash(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the file.") from error


@cache
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

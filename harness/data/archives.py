"""Archives from the internet: fetched, compared with the hash that is known of them, and unpacked without trust.

anomalib's own unpacking leaves out what it finds suspicious and goes on; here an archive is whole, or refused.
"""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.request import urlopen

from harness.errors import DataError

if TYPE_CHECKING:
    from anomalib.data.utils.download import DownloadInfo

GROWTH = 20  # times its own size that an archive may become: images are compressed already
SMALL = 2**28  # bytes that any archive may become
TIMEOUT = 60  # seconds without an answer
_DAMAGED = (  # what the libraries say of it
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, RuntimeError),
)


class _Member(NamedTuple):
    name: str
    size: int
    is_folder: bool
    is_file: bool
    content: IO[bytes] | None


def fetch(folder: Path, info: DownloadInfo) -> None:
    """Download an archive into a folder, unless it is there, unpack it there and remove it.

    Raises: as :func:`download` and :func:`unpack`.
    """
    archive = download(folder, info)
    unpack(archive, folder)
    archive.unlink()


def download(folder: Path, info: DownloadInfo) -> Path:
    """Return an archive in a folder: one that is there whole, else downloaded. What is not whole has another name.

    Raises:
        ValueError: when it is not what its hash says.
        OSError: when the network or the disk fails.
    """
    from anomalib.data.utils.download import check_hash

    folder.mkdir(parents=True, exist_ok=True)
    archive = place(folder, info)
    if archive.exists():
        with suppress(ValueError):  # what is wrong with it may have come with another download
            check_hash(archive, info.hashsum)
            return archive
        archive.unlink()
    part = archive.with_name(f"{archive.name}.part")
    _receive(info, part)
    try:
        check_hash(part, info.hashsum)
    except ValueError:
        part.unlink()
        raise
    part.replace(archive)
    return archive


def place(folder: Path, info: DownloadInfo) -> Path:
    """Return where an archive is or would be."""
    return folder / (info.filename or info.url.rpartition("/")[2])


def _receive(info: DownloadInfo, path: Path) -> None:
    from anomalib.data.utils.download import DownloadProgressBar

    if not info.url.startswith(("https://", "http://")):
        raise ValueError(f"{info.url} is no address of the web")
    with urlopen(info.url, timeout=TIMEOUT) as answer, path.open("wb") as target:
        size = int(answer.headers.get("Content-Length", 0)) or None
        with DownloadProgressBar.wrapattr(answer, "read", total=size, desc=info.name) as source:
            shutil.copyfileobj(source, target)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into a folder: plain files and folders, with the rights of new ones.

    Raises:
        DataError: when a member leads out of the folder or is a link or device, when it all becomes much larger than
            the archive, and when the archive is damaged. What came before it may lie in the folder.
    """
    limit, total = max(SMALL, GROWTH * archive.stat().st_size), 0
    try:
        for member in _members(archive):
            path = folder / _inside(archive, member)
            total += member.size
            if total > limit:
                raise DataError(
                    f"{archive} is refused, for it becomes more than {limit >> 20} MiB, {GROWTH} times its size: "
                    "fetch it anew, or unpack it by hand."
                )
            if member.is_folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            assert member.content is not None
            with member.content as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
    except _DAMAGED as error:
        raise DataError(f"{archive} is damaged ({error}): fetch it anew.") from error


def _inside(archive: Path, member: _Member) -> PurePosixPath:
    """Return a member's place below the folder."""
    place = PurePosixPath(member.name)
    elsewhere = place.is_absolute() or ".." in place.parts or "\\" in member.name or PureWindowsPath(member.name).drive
    if elsewhere or not (member.is_file or member.is_folder):
        what = "leads elsewhere" if elsewhere else "is a link or device"
        raise DataError(f"{archive} is refused, for its member {member.name} {what}: fetch it anew from its publisher.")
    return place


def _members(archive: Path) -> Iterator[_Member]:
    """Yield an archive's members, each with its content open, in the order in which they are stored."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                linked = (info.external_attr >> 28) == 0xA  # the file type of a symbolic link, as Unix stores it
                content = None if info.is_dir() or linked else zipped.open(info)
                yield _Member(info.filename, info.file_size, info.is_dir(), not linked, content)
    else:
        with tarfile.open(archive, "r|*") as tape:
            for entry in tape:
                content = tape.extractfile(entry) if entry.isfile() else None
                yield _Member(entry.name, entry.size, entry.isdir(), entry.isfile(), content)

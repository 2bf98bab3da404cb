"""Fetching public data sets, whose addresses and hashes anomalib knows."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DataError

if TYPE_CHECKING:
    from anomalib.data.utils.download import DownloadInfo

    from harness.data.readers import DatasetLike

STAGING = ".download"  # archives and what is extracted of them, until it is whole
_UNPACKED = "unpacked-"  # folders there, each for one archive


def ensure(dataset: "DatasetLike", root: Path, category: str | None) -> None:
    """Download what is not there: one category (AutoVI) or the whole set (the others).

    A second process that asks at the same time waits; an interrupted download leaves nothing that looks
    whole.

    Raises:
        DataError: the set has no downloader, or its download, verification or extraction failed; says where
            to put the data by hand.
    """
    if is_there(dataset, root, category):
        return
    fetch = FETCHERS[dataset.name or ""]
    from filelock import FileLock

    try:
        staging = root / STAGING
        staging.mkdir(parents=True, exist_ok=True)
        with FileLock(staging / "lock"):
            if not _present(root, category):
                fetch(root, category)
    except Exception as error:
        raise DataError(
            f"The download of {dataset.name} failed ({error}): try again, or put the categories under {root} by hand "
            "and set dataset.download=false."
        ) from error


def is_there(dataset: "DatasetLike", root: Path, category: str | None) -> bool:
    """Tell whether nothing has to be downloaded; looks only.

    Raises:
        DataError: the set has no downloader.
    """
    if (dataset.name or "") not in FETCHERS:
        raise DataError(
            f"There is no download for dataset.name={dataset.name}: put the data under {root} and set "
            f"dataset.download=false; downloads exist for {', '.join(FETCHERS)}."
        )
    return _present(root, category)


def _present(root: Path, category: str | None) -> bool:
    homes = (root, root / "visa_pytorch")
    return any(next(home.glob(f"{category or '*'}/train"), None) is not None for home in homes)


def _fetch(root: Path, info: "DownloadInfo") -> None:
    """Download and extract aside, then move what is whole into `root`; the archive stays until all of it is there."""
    from harness.data.archives import download, unpack

    staging = root / STAGING
    archive = download(staging, info)
    with _fresh_folder(staging) as unpacked:
        unpack(archive, unpacked)
        for item in unpacked.iterdir():
            if not (root / item.name).exists():
                os.rename(item, root / item.name)
    archive.unlink()


@contextmanager
def _fresh_folder(staging: Path) -> Iterator[Path]:
    """Make a folder in place of those that killed processes have left: nothing half done is taken for whole."""
    for left in staging.glob(f"{_UNPACKED}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_UNPACKED, dir=staging) as folder:
        yield Path(folder)


def _mvtec_ad(root: Path, category: str | None) -> None:
    from anomalib.data.datamodules.image.mvtecad import DOWNLOAD_INFO

    _fetch(root, DOWNLOAD_INFO)


def _mvtec_loco(root: Path, category: str | None) -> None:
    from anomalib.data.datasets.image.mvtec_loco import DOWNLOAD_INFO

    _fetch(root, DOWNLOAD_INFO)


def _visa(root: Path, category: str | None) -> None:
    """The archive, unless it is there already, then its official one-class split, written aside."""
    from anomalib.data.datamodules.image.visa import DOWNLOAD_INFO, Visa

    from harness.data.archives import place

    if not (root / "split_csv").is_dir() or place(root / STAGING, DOWNLOAD_INFO).exists():  # it goes when all is moved
        _fetch(root, DOWNLOAD_INFO)
    split = Visa(root=root)
    with _fresh_folder(root / STAGING) as folder:
        split.split_root = folder / "visa_pytorch"
        split.apply_cls1_split()
        os.rename(split.split_root, root / "visa_pytorch")


def _autovi(root: Path, category: str | None) -> None:
    from anomalib.data.datasets.image.autovi import DOWNLOAD_HASHES, DOWNLOAD_URLS
    from anomalib.data.utils.download import DownloadInfo

    for name in (category,) if category else DOWNLOAD_URLS:
        if name not in DOWNLOAD_URLS:
            raise ValueError(f"AutoVI has no category {name!r}, only {', '.join(DOWNLOAD_URLS)}")
        _fetch(root, DownloadInfo(f"AutoVI {name}", DOWNLOAD_URLS[name], DOWNLOAD_HASHES[name], f"{name}.zip"))


FETCHERS: dict[str, Callable[[Path, str | None], None]] = {
    "mvtec_ad": _mvtec_ad,
    "mvtec_loco": _mvtec_loco,
    "visa": _visa,
    "autovi": _autovi,
}

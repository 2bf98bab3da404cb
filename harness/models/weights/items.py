"""What methods need beside a backbone, by name: where it is looked for, and how it is had.

Hashes of anomalib's downloads are checked as they are fetched (`hub`); they are of the archives, so that of a file or
folder already there nothing is known but its content, which is part of the run key.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock
from omegaconf import DictConfig

from harness.errors import WeightsError
from harness.models.weights import stand_ins
from harness.models.weights.files import file_id, folder_id, images_in, load_state

SMALL = "small"  # EfficientAD's teacher has two sizes; anomalib's default


@dataclass(frozen=True)
class Item:
    """Something that a method needs.

    Args:
        what: as a message names it.
        names: below `weights.dir`, in the order in which they are tried; `{size}` is EfficientAD's model size.
        folder: of images, or else a file of weights.
        download: anomalib's constant that says where it comes from and what its archive's hash is.
    """

    what: str
    names: tuple[str, ...]
    folder: bool
    download: str


ITEMS: Mapping[str, Item] = {
    "efficient_ad_teacher": Item(
        "EfficientAD's {size} teacher",
        (
            "efficient_ad_teacher_{size}.safetensors",
            "efficient_ad_teacher_{size}.pth",
            "pretrained_teacher_{size}.pth",
            "efficientad_pretrained_weights/pretrained_teacher_{size}.pth",
        ),
        folder=False,
        download="anomalib.models.image.efficient_ad.lightning_model.WEIGHTS_DOWNLOAD_INFO",
    ),
    "imagenette": Item(
        "The Imagenette images",
        ("imagenette2", "imagenette", "imagenette2-320", "imagenette2-160"),
        folder=True,
        download="anomalib.models.image.efficient_ad.lightning_model.IMAGENETTE_DOWNLOAD_INFO",
    ),
    "dsr_dictionary": Item(
        "DSR's pre-trained dictionary",
        ("dsr_dictionary.safetensors", "dsr_dictionary.pth", "vq_model_pretrained_128_4096.pckl"),
        folder=False,
        download="anomalib.models.image.dsr.lightning_model.WEIGHTS_DOWNLOAD_INFO",
    ),
    "dtd": Item(
        "The texture images of DTD",
        ("dtd",),
        folder=True,
        download="anomalib.models.image.draem.lightning_model.DTD_DOWNLOAD_INFO",
    ),
}


def find(name: str, config: DictConfig) -> Path:
    """Return the file or folder of an item that a method needs, checked: a folder holds images, a file only tensors.

    Raises:
        WeightsError: naming the item, where it was looked for and how to get it.
    """
    item, size = _item(name, config)
    if config.weights[name] == "random":
        path = stand_ins.create(name, size, Path(config.tracking.directory) / "stand_ins")
    else:
        path = locate(name, config)
    if item.folder:
        images_in(path)
    else:
        load_state(path)
    return path


def item_id(name: str, config: DictConfig) -> str:
    """Name an item by content, without importing torch: `dtd:folder-<hash>`, `dsr_dictionary:file-<hash>`.

    Raises:
        WeightsError: as :func:`find`.
    """
    item, _ = _item(name, config)
    if config.weights[name] == "random":
        return f"{name}:random-{stand_ins.VERSION}"
    path = locate(name, config)
    return f"{name}:{folder_id(path) if item.folder else file_id(path)}"


def _item(name: str, config: DictConfig) -> tuple[Item, str]:
    if name not in ITEMS:
        raise WeightsError(f"method.needs={name} is nothing known; a method may need {', '.join(ITEMS)}.")
    return ITEMS[name], str(config.method.get("model_size", SMALL))


def locate(name: str, config: DictConfig) -> Path:
    """Return the path of an item: its own, or below `weights.dir`, fetched before if it may be."""
    item, size = _item(name, config)
    given, names = config.weights[name], [known.format(size=size) for known in item.names]
    below = Path(config.weights.dir).expanduser() if config.weights.dir is not None else None
    if given not in (None, "hub"):
        places = [own := Path(given).expanduser(), *(own / known for known in names)]
    else:
        places = [below / known for known in names] if below is not None else []
    if found := _first(places, item.folder):
        return found
    if given == "hub":
        _fetch(name, item, below, places)
        if found := _first(places, item.folder):
            return found
    looked = ", ".join(map(str, places)) or "nowhere, because weights.dir is not set"
    raise WeightsError(f"{item.what.format(size=size)} ({name}) cannot be found; looked for: {looked}. {_remedy(name)}")


def _first(places: list[Path], folder: bool) -> Path | None:
    """Return the first place that is what it should be."""
    return next((path for path in places if (path.is_dir() if folder else path.is_file())), None)


def _remedy(name: str) -> str:
    return (
        f"Give weights.{name}=PATH, or weights.dir=FOLDER with a known name below it (conf/weights/default.yaml lists "
        f"them), or weights.dir=FOLDER weights.{name}=hub to download it."
    )


def _fetch(name: str, item: Item, folder: Path | None, places: list[Path]) -> None:
    """Download and unpack an item, whose address and hash anomalib knows; one process at a time."""
    if folder is None:
        raise WeightsError(f"weights.{name}=hub downloads into a folder of yours: give weights.dir=FOLDER too.")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        reason = "" if _first(places, item.folder) else _download(item.download, folder)
    if reason:
        raise WeightsError(
            f"{item.what.format(size='')} ({name}) cannot be downloaded ({reason}); offline, fetch it elsewhere and "
            f"give weights.{name}=PATH."
        )


@lru_cache(maxsize=8)
def _download(constant: str, folder: Path) -> str:
    """Return why a download failed, or nothing; tried once a process, for retries take long.

    Fetched and unpacked aside, then moved: what is in the folder is whole.
    """
    from harness.data.archives import fetch

    module, _, attribute = constant.rpartition(".")
    info = getattr(importlib.import_module(module), attribute)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as aside:
        try:
            fetch(Path(aside), info)
        except Exception as error:  # the network has many, and a wrong hash is one more
            return f"{info.url}: {type(error).__name__}, {' '.join(str(error).split())[:300]}"
        for path in Path(aside).iterdir():
            if not (folder / path.name).exists():
                path.rename(folder / path.name)
    return ""

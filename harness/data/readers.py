"""From folders to `Category`: one reader for everything that looks like MVTec AD.

MVTec AD, MVTec LOCO, AutoVI, VisA (after its official one-class split) and the toy data share one shape,
`<root>/<category>/{train,validation,test}/<good or defect>/<image>`, and differ in their masks, which are
recognised by what is on disk:

- `ground_truth/<defect>/<stem>_mask.<any>` or `ground_truth/<defect>/<stem>.<any>`: one mask an image;
- `ground_truth/<defect>/<stem>/<any>`: one file a defect region (MVTec LOCO, AutoVI);
- `defects_config.json` beside `train`: pixel value -> saturation threshold;
- `metadata.csv` beside `train`: a row an image, with whatever is known of it (see `harness.data.metadata`).
"""

import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Protocol

from harness.data import download, toy
from harness.data.looking import AwaitedError, is_looking, toy_aside
from harness.data.metadata import SelectionLike, read_metadata, select
from harness.data.records import Category, DefectConfig, Sample, Split
from harness.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
CONFIG_FILE = "defects_config.json"
CONFIGURED_LAYOUTS = ("loco", "autovi")  # their AUsPRO is defined by defects_config.json
LAYOUTS = ("toy", "mvtec", "loco", "visa", "autovi")


class DatasetLike(SelectionLike, Protocol):
    """What the readers need of `harness.schema.DatasetConfig`."""

    name: str | None
    layout: str
    root: str | None
    download: bool
    categories: list[str] | None


def read_category(dataset: DatasetLike, category: str) -> Category:
    """Read one category: paths, labels and metadata only, no pixels; of its images those that the data set selects.

    Raises:
        DataError: naming everything that is structurally wrong: the root or category is missing (with the categories
            that exist), it holds no image where images belong, its `defects_config.json` is missing or
            malformed, its `metadata.csv` does not fit the images or what is selected.
    """
    if _leaves(category):
        raise DataError(f"category={category!r} leads out of the data set: give the name of one of its folders.")
    root = dataset_root(dataset, category)
    folder = root / category
    if not folder.is_dir():
        raise DataError(_missing_category(dataset, root, category))
    samples = tuple(_samples(folder))
    if not samples:
        raise DataError(
            f"Category {category!r} is empty: no image under {folder}/train/good or {folder}/test/<defect>; "
            "the layout is <root>/<category>/train/good, test/good, test/<defect>, ground_truth/<defect>."
        )
    defects = _read_defects(folder / CONFIG_FILE, required=dataset.layout in CONFIGURED_LAYOUTS)
    metadata = read_metadata(folder, (sample.name for sample in samples))
    return select(Category(dataset_name(dataset), category, folder, samples, defects, metadata), dataset)


def list_categories(dataset: DatasetLike) -> list[str]:
    """Names of the categories on disk, sorted; of those in `dataset.categories` only, where that is given.

    Before a download, when nothing is on disk, the names in `dataset.categories`.
    """
    if dataset.download and dataset.categories:
        return sorted(dataset.categories)
    if dataset.layout == "toy":
        root, found = Path(dataset.root or "."), toy.categories()
    else:
        root = dataset_root(dataset)
        found = _category_folders(root)
    chosen = [name for name in found if not dataset.categories or name in dataset.categories]
    if chosen:
        return chosen
    wanted = f" (looked for {', '.join(dataset.categories)})" if dataset.categories else ""
    raise DataError(f"No category under {root}{wanted}: a category is a folder with `train` and `test`.")


def dataset_name(dataset: DatasetLike) -> str:
    """The configured name, or the name of the root folder (`dataset=folder`)."""
    return dataset.name or Path(dataset.root or ".").expanduser().resolve().name


def dataset_root(dataset: DatasetLike, category: str | None = None) -> Path:
    """The folder that holds the categories; toy data is generated, an absent set downloaded if asked for.

    Raises:
        AwaitedError: for a set that is to be downloaded, while we are only :func:`looking`.
        DataError: when there is no such folder, or its download fails.
    """
    if dataset.layout not in LAYOUTS:
        raise DataError(f"Unknown dataset.layout {dataset.layout!r}: choose one of {', '.join(LAYOUTS)}.")
    if dataset.layout == "toy":
        return _toy_root(Path(dataset.root or "runs/toy").expanduser())
    if dataset.root is None:
        raise DataError(
            f"dataset={dataset.name or 'folder'} needs dataset.root=FOLDER, with one folder a category in it."
        )
    root = Path(dataset.root).expanduser()
    if dataset.download and is_looking() and not download.is_there(dataset, root, category):
        raise AwaitedError(
            f"The images of {dataset.name} will be downloaded into {root} by the first run that needs them."
        )
    if dataset.download and not is_looking():
        download.ensure(dataset, root, category)
    if not root.is_dir():
        download_hint = " or set dataset.download=true" if dataset.name else ""
        raise DataError(f"The data set folder {root} does not exist: give another dataset.root{download_hint}.")
    # VisA's archive is not in MVTec layout; anomalib writes the official one-class split beside it.
    split = root / "visa_pytorch"
    return split if dataset.layout == "visa" and split.is_dir() else root


def _toy_root(root: Path) -> Path:
    return toy_aside() if is_looking() and not toy.folder_in(root).is_dir() else toy.generate(root)


def image_files(folder: Path) -> list[Path]:
    """Visible image files directly in `folder`, sorted by name. [] where there is no folder.

    Raises:
        DataError: for a link that leads nowhere, and a name that cannot be written into a table.
    """
    if not folder.is_dir():
        return []
    named = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
    files = sorted((f for f in named if f.is_file() or _dangles(f)), key=lambda f: f.name)
    for file in files:
        _require_text(file)
    return files


def _dangles(path: Path) -> bool:
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link that leads nowhere: restore what it points to, or remove it.")
    return False


def _require_text(path: Path) -> None:
    """Refuse a name that no table could hold, for it is no Unicode, or that would steer the terminal that shows it."""
    name, where = path.name, f"{path.parent} has a file or folder"
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode(errors="backslashreplace")
        raise DataError(f"{where} whose name is not UTF-8, {shown}: rename it.") from None
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", name):
        raise DataError(f"{where} with control characters in its name, {name!r}: rename it.")


def subfolders(folder: Path) -> list[Path]:
    """Visible folders directly in `folder`, sorted by name. [] where there is no folder.

    Raises:
        DataError: for a name that cannot be written into a table.
    """
    if not folder.is_dir():
        return []
    folders = sorted((f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")), key=lambda f: f.name)
    for found in folders:
        _require_text(found)
    return folders


def _leaves(category: str) -> bool:
    """Whether a category's name leads out of the root, or nowhere."""
    place = PurePath(category)
    return place.is_absolute() or ".." in place.parts or not place.parts


def _samples(folder: Path) -> Iterable[Sample]:
    one_class: tuple[Split, ...] = ("train", "validation")
    for split in one_class:
        for path in image_files(folder / split / "good"):
            yield Sample(path, f"{split}/good/{path.name}", split, "good")
    for defect in subfolders(folder / "test"):
        masks = {} if defect.name == "good" else _masks(folder / "ground_truth" / defect.name)
        for path in image_files(defect):
            found = masks.get(f"{path.stem}_mask") or masks.get(path.stem) or ()
            yield Sample(path, f"test/{defect.name}/{path.name}", "test", defect.name, found)


def _masks(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Mask files by stem (one plain file) or by the folder that holds them (one file a region)."""
    regions = {sub.name: tuple(image_files(sub)) for sub in subfolders(folder)}
    return regions | {path.stem: (path,) for path in image_files(folder)}


def _read_defects(path: Path, required: bool) -> dict[int, DefectConfig]:
    if not path.exists():
        if required:
            raise DataError(f"{path} is missing: it gives the saturation thresholds; restore it.")
        return {}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        entries = [_defect(entry) for entry in listed]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} is malformed ({reason}): it must be a list of objects with "
            f"defect_name, pixel_value, saturation_threshold and relative_saturation."
        ) from error
    defects: dict[int, DefectConfig] = {}
    for entry in entries:
        other = defects.setdefault(entry.pixel_value, entry)
        if other[1:] != entry[1:]:
            raise DataError(
                f"{path} gives pixel value {entry.pixel_value} two saturation thresholds "
                f"({other.name} and {entry.name}): give each defect a value of its own."
            )
    return defects


def _defect(entry: dict[str, object]) -> DefectConfig:
    value, threshold = entry["pixel_value"], entry["saturation_threshold"]
    relative = entry["relative_saturation"]
    if isinstance(value, bool) or isinstance(threshold, bool):  # which count as numbers in Python
        raise ValueError(f"wrong type in {entry}")
    if not isinstance(value, int) or not isinstance(threshold, int | float) or not isinstance(relative, bool):
        raise ValueError(f"wrong type in {entry}")
    if value < 1 or not 0 < threshold < math.inf or (relative and threshold > 1):
        raise ValueError(f"value out of range in {entry}")
    return DefectConfig(str(entry["defect_name"]), value, float(threshold), relative)


def _category_folders(root: Path) -> list[str]:
    found = [f.name for f in subfolders(root) if (f / "train").is_dir() or (f / "test").is_dir()]
    if reference := next((name for name in found if "${" in name), None):  # it would be looked up, not read
        raise DataError(f"{root / reference} has ${{ in its name, which a configuration resolves: rename the folder.")
    return found


def _missing_category(dataset: DatasetLike, root: Path, category: str) -> str:
    found = _category_folders(root)
    text = f"There is no category {category!r} under {root}"
    if found:
        return f"{text}: it has {', '.join(found)}."
    if (root / "train").is_dir() or (root / "test").is_dir():
        return f"{text}: that is a category itself; give its parent as dataset.root and category={root.name}."
    if dataset.layout == "visa" and (root / "split_csv").is_dir():
        return (
            f"{text}: that is the raw VisA archive; dataset.download=true applies its official one-class "
            f"split (split_csv/1cls.csv) into {root / 'visa_pytorch'}."
        )
    return f"{text}, nor any other: a category is a folder with `train` and `test` in it."

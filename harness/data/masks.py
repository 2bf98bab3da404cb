"""Pixels from disk: images as RGB, masks as defect regions with their saturation areas."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from harness.data.records import Category, Sample
from harness.errors import DataError

BoolArray = npt.NDArray[np.bool_]
Region = tuple[BoolArray, float]


def load_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image as uint8 H×W×3 RGB.

    Grey is repeated, palettes and CMYK are converted, transparency is dropped, 16-bit grey is scaled (65535
    -> 255), of several frames the first is read. EXIF orientation is not applied: masks are drawn on the
    stored pixels, and anomalib reads them so too.

    Raises:
        DataError: the file cannot be decoded, or holds floating-point pixels, whose range is not known.
    """
    image = open_image(path)
    if image.mode == "F":
        raise DataError(f"{path} holds floating-point pixels: save it with 8 or 16 bits a channel.")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        eight = np.clip((grey + 128) // 257, 0, 255).astype(np.uint8)
        return np.repeat(eight[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def load_sample(sample: Sample) -> npt.NDArray[np.uint8]:
    """Read a sample's image as :func:`load_image` does, turned upright."""
    return _upright(load_image(sample.path), sample)


def load_regions(category: Category, sample: Sample) -> list[Region]:
    """Defect regions of a sample at native size, turned upright: `(bool H×W, saturation area in pixels)`; [] if none.

    With a `defects_config.json` each pixel value of each mask file is a region, saturated by its entry.
    Without one, each file is a region where a folder holds the files of an image, and a single plain mask
    falls into its connected components (8-connectivity, as in MVTec's evaluation code); such a region
    saturates at its whole area.

    Raises:
        DataError: a mask cannot be decoded, has a pixel value that the configuration does not know, or the masks of
            the sample differ in size.
    """
    regions: list[Region] = []
    shape: tuple[int, ...] | None = None
    for path in sample.masks:
        values = _upright(load_mask_values(path), sample)
        if shape not in (None, values.shape):
            raise DataError(f"{path} is {_size(values)}, unlike the other masks of {sample.name}.")
        shape = values.shape
        regions += (
            _plain(path, values) if sample.synthetic or not category.defects else _configured(category, path, values)
        )
    return regions


def load_mask(category: Category, sample: Sample) -> BoolArray:
    """Union of the defect regions, bool H×W at native size, upright; all False for a sample without masks."""
    if not sample.masks:
        return np.zeros(sample_shape(sample), dtype=bool)
    union = load_mask_values(sample.masks[0]) > 0
    for path in sample.masks[1:]:
        other = load_mask_values(path) > 0
        if other.shape != union.shape:
            raise DataError(f"{path} is {_size(other)}, unlike the other masks of {sample.name}.")
        union |= other
    return _upright(union, sample)


def sample_shape(sample: Sample) -> tuple[int, int]:
    """Height and width of a sample's image, upright, from its header alone."""
    height, width = image_shape(sample.path)
    return (width, height) if sample.turns % 2 else (height, width)


def image_shape(path: Path) -> tuple[int, int]:
    """Height and width of an image, from its header alone."""
    with open_image(path, decode=False) as image:
        return image.height, image.width


def load_mask_values(path: Path) -> npt.NDArray[np.int64]:
    """Pixel values of a mask, int H×W; 0 is no defect. Of several channels the largest counts.

    In lossy formats values below 128 are compression noise and become 0.
    """
    image = open_image(path)
    if image.mode in ("P", "RGBA", "LA", "PA", "CMYK"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    values = np.asarray(image).astype(np.int64)
    if values.ndim == 3:
        values = values.max(axis=2)
    if path.suffix.lower() in (".jpg", ".jpeg", ".webp"):
        values = np.where(values < 128, 0, values)
    return values


def _upright(pixels: Any, sample: Sample) -> Any:
    return np.ascontiguousarray(np.rot90(pixels, -sample.turns)) if sample.turns else pixels


def _configured(category: Category, path: Path, values: npt.NDArray[np.int64]) -> list[Region]:
    regions = []
    for value in np.unique(values[values > 0]).tolist():
        if value not in category.defects:
            known = ", ".join(str(v) for v in sorted(category.defects))
            raise DataError(
                f"{path} has pixel value {value}, unknown to {category.root / 'defects_config.json'} "
                f"(it lists {known}): correct the mask or add the value."
            )
        region = values == value
        regions.append((region, category.defects[value].saturation_area(int(region.sum()))))
    return regions


def _plain(path: Path, values: npt.NDArray[np.int64]) -> list[Region]:
    mask = values > 0
    if is_region_file(path):
        return [(mask, float(mask.sum()))] if mask.any() else []
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    return [(part, float(part.sum())) for part in (labels == i for i in range(1, count + 1))]


def is_region_file(path: Path) -> bool:
    """Whether a mask is one of a folder `ground_truth/<defect>/<image>/`, one file a region."""
    return path.parent.parent.name != "ground_truth"


def open_image(path: Path, decode: bool = True) -> Image.Image:
    """Open an image file with Pillow, its pixels decoded unless told not to; DataError where that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            if decode:
                image.load()
            return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}): replace the file.") from error


def _size(array: npt.NDArray[np.generic]) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"

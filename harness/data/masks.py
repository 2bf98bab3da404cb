"""Pixels from disk: images as RGB, masks as defect regions with their saturation areas."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from harness.data.records import Category, Sample
from harness.errors import DataError

BoolArray = npt.NDArray[np.bool_]
Region = tuple[BoolArray, float]

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")  # by content; GIF to say what is wrong with it
WHITE = 65535  # of 16 bits
_PREVIEWED = ("MPO",)  # a telephone's photograph, whose further frames are previews of it
_SAVE = "save it as PNG with 8 bits a channel, or 16 bits grey"


def load_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image as uint8 H×W×3 RGB.

    Grey is repeated, palettes and CMYK are converted, transparency is dropped, 16-bit grey is scaled (65535
    -> 255). EXIF orientation is not applied: masks are drawn on the stored pixels, and anomalib reads them so too.

    Raises:
        DataError: the file cannot be decoded, holds several frames, or pixels whose range is not known (floats, 32
            bits).
    """
    return as_rgb(open_image(path), path)


def as_rgb(image: Image.Image, path: Path) -> npt.NDArray[np.uint8]:
    """Convert a decoded image as :func:`load_image` tells; `path` is for its errors."""
    if image.mode == "F":
        raise DataError(f"{path} holds floating-point pixels, whose range is not known: {_SAVE}.")
    if is_sixteen_bit(image):
        grey = np.asarray(image).astype(np.int64)
        if grey.size and (grey.min() < 0 or grey.max() > WHITE):
            raise DataError(f"{path} holds pixels from {grey.min()} to {grey.max()}, beyond 16 bits: {_SAVE}.")
        eight = ((grey + 128) // 257).astype(np.uint8)
        return np.repeat(eight[..., None], 3, axis=2)
    return np.array(_converted(image, "RGB", path))


def is_sixteen_bit(image: Image.Image) -> bool:
    """Whether pixels are whole numbers of more than 8 bits: grey, for Pillow halves the bits of colours."""
    return image.mode.startswith("I")


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

    Raises:
        DataError: the file cannot be decoded, or does not say clearly where the defect is: transparent or fractional.
    """
    image = open_image(path)
    if image.mode == "F":
        raise DataError(f"{path} holds floating-point pixels, but a mask has whole numbers: save it with 8 bits.")
    if image.has_transparency_data and _converted(image, "RGBA", path).getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{path} has transparent pixels, defect or not: save the mask without transparency.")
    if image.mode in ("P", "RGBA", "LA", "PA", "CMYK"):
        image = _converted(image, "RGB", path)
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
    """Open an image file with Pillow, its pixels decoded unless told not to.

    Only formats of photographs are tried, whatever the suffix says: Pillow hands others (EPS) to programs.

    Raises:
        DataError: the file cannot be read, is larger than Pillow thinks safe, or has several frames.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images and damaged metadata
            image = Image.open(path, formats=FORMATS)
            several = image.format not in _PREVIEWED and getattr(image, "is_animated", False)
            if decode and not several:
                image.load()
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large ({_megapixels(error)}): scale it down or cut it.") from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        reason = _reason(error)
        raise DataError(f"{path} cannot be read as an image ({reason}): replace the file, or {_SAVE}.") from error
    if several:
        raise DataError(f"{path} holds several frames or pages, but an image is one: save each in a file of its own.")
    return image


def _megapixels(error: Image.DecompressionBombError) -> str:
    """Return what Pillow says of a size, in the unit of cameras."""
    sizes = [f"{int(pixels) / 1e6:.0f}" for pixels in re.findall(r"\d+", str(error))]
    return f"{sizes[0]} megapixels, at most {sizes[1]} can be read" if len(sizes) == 2 else str(error)


def _reason(error: Exception) -> str:
    """Return what is wrong in a few words, without the path, which the sentence has already."""
    if isinstance(error, UnidentifiedImageError):
        return "it is none, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:100] or type(error).__name__


def _converted(image: Image.Image, mode: str, path: Path) -> Image.Image:
    try:
        return image.convert(mode)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} has colours that cannot be read ({image.mode}): {_SAVE}.") from error


def _size(array: npt.NDArray[np.generic]) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"

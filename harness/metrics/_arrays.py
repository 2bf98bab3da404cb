"""Input conversion shared by the image and the pixel metrics."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
ArrayLike: TypeAlias = Any
"""A NumPy array, a torch tensor on any device, or nested sequences of numbers."""
Images: TypeAlias = Any
"""An (N, H, W) array or tensor, or a sequence of N (H, W) ones whose sizes may differ; it may be lazy."""


def as_numpy(values: ArrayLike) -> Array:
    """`values` as an array of their own dtype; torch tensors are known by their methods."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def as_images(images: Images) -> Iterable[Any]:
    """The images to iterate over: a whole tensor leaves its device at once, anything else stays as lazy as it is."""
    return as_numpy(images) if hasattr(images, "ndim") else images


def as_sequence(images: Images) -> Sequence[Any]:
    """As `as_images`, for what is read more than once: an iterator is read into a list."""
    found: Any = as_images(images)
    return found if hasattr(found, "__getitem__") else list(found)


def as_image(image: ArrayLike, index: int) -> Array:
    """One image as an array; raises `ValueError` where it is not 2-D."""
    array = as_numpy(image)
    if array.ndim != 2:
        raise ValueError(f"image {index}: expected an array of shape (H, W), got {array.shape}")
    return array


def as_binary(values: ArrayLike, what: str) -> NDArray[np.bool_]:
    """`values`, bool or numbers that are all 0 or 1, as bool; `what` names them in the error."""
    array = as_numpy(values)
    if array.dtype == np.bool_:
        return array
    binary: NDArray[np.bool_] = array == 1
    if not np.array_equal(binary, array):
        raise ValueError(f"{what}: values must be bool, 0 or 1")
    return binary


def joined(parts: list[Any], dtype: type) -> Array:
    """The parts end to end; empty, of the given dtype, where there are none."""
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def compact(positions: Array, size: int) -> Array:
    """Positions below `size` in the smallest integers that hold them: they are what stays in memory."""
    return positions.astype(np.min_scalar_type(size))

"""Input conversion shared by the image and the pixel metrics."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
ArrayLike: TypeAlias = Any
"""A NumPy array, a torch tensor on any device, or nested sequences of numbers."""
Images: TypeAlias = Any
"""An (N, H, W) array or tensor, or a sequence of N (H, W) ones whose sizes may differ."""


def as_numpy(values: ArrayLike) -> Array:
    """`values` as an array of their own dtype; torch tensors are known by their methods."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def as_images(images: Images) -> list[Array]:
    """The images as a list of 2-D arrays; raises `ValueError` where one is not 2-D."""
    whole = as_numpy(images) if hasattr(images, "ndim") else images
    arrays = [as_numpy(image) for image in whole]
    for index, array in enumerate(arrays):
        if array.ndim != 2:
            raise ValueError(f"image {index}: expected an array of shape (H, W), got {array.shape}")
    return arrays


def as_binary(values: ArrayLike, what: str) -> NDArray[np.bool_]:
    """`values`, bool or numbers that are all 0 or 1, as bool; `what` names them in the error."""
    array = as_numpy(values)
    if array.dtype == np.bool_:
        return array
    binary: NDArray[np.bool_] = array == 1
    if not np.array_equal(binary, array):
        raise ValueError(f"{what}: values must be bool, 0 or 1")
    return binary

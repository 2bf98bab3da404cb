"""Samples as NumPy arrays, whatever they came as."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def as_sample(values: Any) -> Floats:
    """Return a one-dimensional float array of any array-like, torch tensors included.

    Raises:
        ValueError: when the values have more than one dimension.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise ValueError(f"a sample has one dimension, not shape {sample.shape}")
    return sample


def mean_and_std(sample: Floats) -> tuple[float, float]:
    """Return mean and sample standard deviation (ddof 1) of one or more values; the deviation of one is nan.

    Equal values have exactly their own mean and deviation 0, where summing would leave rounding noise that a
    t-test takes for a difference.
    """
    if np.all(sample == sample[0]):
        return float(sample[0]), 0.0 if sample.size > 1 else float("nan")
    return float(np.mean(sample)), float(np.std(sample, ddof=1))

"""Samples as NumPy arrays, whatever they came as."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Summary(NamedTuple):
    """What a table prints of a sample as "mean ± std over n"; nan for what the sample does not define."""

    mean: float
    std: float  # sample standard deviation (ddof 1)
    n: int


def as_sample(values: Any) -> Floats:
    """Return a one-dimensional float array of any array-like, torch tensors included.

    Raises:
        ValueError: when the values have more than one dimension.
    """
    sample = _as_floats(values)
    if sample.ndim != 1:
        raise ValueError(f"a sample has one dimension, not shape {sample.shape}")
    return sample


def as_pairs(a: Any, b: Any) -> tuple[Floats, Floats]:
    """Return paired samples, `a[i]` belonging to `b[i]`.

    Raises:
        ValueError: when the lengths differ.
    """
    a, b = as_sample(a), as_sample(b)
    if a.size != b.size:
        raise ValueError(f"paired samples have equal lengths, not {a.size} and {b.size}")
    return a, b


def as_matrix(values: Any) -> Floats:
    """Return a two-dimensional float array of any array-like; rows come first.

    Raises:
        ValueError: when the values have another number of dimensions.
    """
    matrix = _as_floats(values)
    if matrix.ndim != 2:
        raise ValueError(f"a matrix has two dimensions, not shape {matrix.shape}")
    return matrix


def as_labels(values: Any) -> NDArray[np.bool_]:
    """Return labels (N, 1 or True = anomalous) as booleans.

    Raises:
        ValueError: when a label is neither 0 nor 1.
    """
    labels = as_sample(values)
    if not np.all((labels == 0) | (labels == 1)):
        raise ValueError("labels are 0 or 1")
    return labels == 1


def check_share(name: str, value: float) -> None:
    """Refuse a confidence, level or power that does not lie between 0 and 1.

    Raises:
        ValueError: in that case.
    """
    if not 0 < value < 1:
        raise ValueError(f"{name} lies between 0 and 1, not {value}")


def mean_and_std(sample: Floats) -> tuple[float, float]:
    """Return mean and sample standard deviation (ddof 1) of one or more values; the deviation of one is nan.

    Equal values have exactly their own mean and deviation 0, where summing would leave rounding noise that a
    t-test takes for a difference.
    """
    if np.all(sample == sample[0]):
        return float(sample[0]), 0.0 if sample.size > 1 else float("nan")
    return float(np.mean(sample)), float(np.std(sample, ddof=1))


def summarize(values: Any) -> Summary:
    """Return mean, deviation and number of a sample; no mean (nan) where it is empty or a value is not finite."""
    sample = as_sample(values)
    if sample.size == 0 or not np.isfinite(sample).all():
        return Summary(float("nan"), float("nan"), sample.size)
    return Summary(*mean_and_std(sample), sample.size)


def _as_floats(values: Any) -> Floats:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)

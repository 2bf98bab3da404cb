"""Many comparisons at once: p values corrected for their number.

A nan is a comparison that was not made: it stays nan and does not count among the comparisons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.stats.arrays import Floats, as_sample


def holm(p: Any) -> Floats:
    """Return Holm's step-down corrected p values in the order given (Holm 1979, Scand. J. Stat. 6).

    They bound the chance of any false finding, whatever the dependence between the tests.

    Raises:
        ValueError: when a p value lies outside [0, 1].
    """
    raw, order = _ascending(p)
    factors = np.arange(order.size, 0, -1)
    return _in_order_given(np.maximum.accumulate(raw[order] * factors), order, raw.size)


def benjamini_hochberg(p: Any) -> Floats:
    """Return Benjamini and Hochberg's step-up corrected p values in the order given (1995, J. R. Stat. Soc. B 57).

    They bound the expected share of false findings among the findings, for tests that are independent or positively
    dependent.

    Raises:
        ValueError: when a p value lies outside [0, 1].
    """
    raw, order = _ascending(p)
    factors = order.size / np.arange(1, order.size + 1)
    lowered = np.minimum.accumulate((raw[order] * factors)[::-1])[::-1]
    return _in_order_given(lowered, order, raw.size)


def _ascending(p: Any) -> tuple[Floats, NDArray[np.intp]]:
    """Return p values and the indices of those that are not nan, smallest first."""
    raw = as_sample(p)
    tested = np.flatnonzero(~np.isnan(raw))
    if np.any((raw[tested] < 0) | (raw[tested] > 1)):
        raise ValueError("p values lie in [0, 1]")
    return raw, tested[np.argsort(raw[tested], kind="stable")]


def _in_order_given(values: Floats, order: NDArray[np.intp], size: int) -> Floats:
    """Return the values at their indices, at most 1, and nan elsewhere."""
    corrected = np.full(size, np.nan)
    corrected[order] = np.minimum(1.0, values)
    return corrected

"""How steady a metric is over the epochs of one run (paper 000, section IV-A and Fig. 4).

The paper draws it and tells the baseline's fall to 54 % image AUROC in epoch 22; these numbers make it a test.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from harness.stats.arrays import as_sample, mean_and_std

CLOSE = 0.01  # of the final value: what counts as having reached it
LAST_EPOCHS = 10
_ROUNDING = 1e-9  # 0.99 is within 1 % of 1.0 also in binary


class Stability(NamedTuple):
    """Of each number less is steadier; worst_drop and std_last are in the curve's own unit."""

    worst_drop: float  # largest fall below the best value so far, from convergence to the end
    std_last: float  # sample standard deviation (ddof 1) of the last ten epochs, or of all where they are fewer
    settled_epoch: float  # first epoch, from 0, from which on all values are within 1 % of the final one


def stability(curve: Any) -> Stability:
    """Return how steady a metric is that is better the higher it is.

    Convergence is the first epoch whose value is within 1 % (relative) of the final one. Falls count from there on,
    but the best value so far is that of all epochs: a run that collapses and stays low has fallen.

    Args:
        curve: one-dimensional array-like, a value an epoch. One that is not finite: all nan; one epoch: no deviation
            (nan).

    Raises:
        ValueError: when there is no epoch.
    """
    values = as_sample(curve)
    if values.size == 0:
        raise ValueError("a curve has at least one epoch")
    if not np.all(np.isfinite(values)):
        return Stability(math.nan, math.nan, math.nan)
    close = np.abs(values - values[-1]) <= CLOSE * abs(values[-1]) * (1 + _ROUNDING)
    converged = int(np.argmax(close))
    falls = np.maximum.accumulate(values) - values
    far = np.flatnonzero(~close)
    settled = int(far[-1]) + 1 if far.size else 0
    return Stability(float(falls[converged:].max()), mean_and_std(values[-LAST_EPOCHS:])[1], float(settled))

"""How two samples lie among each other: what the area under a ROC curve and its variance are made of."""

from __future__ import annotations

import numpy as np
from scipy import stats

from harness.stats.arrays import Floats


def placements(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return how many of b lie below each of a, and how many of a above each of b; one that is equal counts half.

    By midranks, in O(n log n) (Sun and Xu 2014, IEEE Signal Process. Lett. 21). Counts are exact; divided by the size
    of the other sample they are the structural components of DeLong, DeLong and Clarke-Pearson (1988, Biometrics 44),
    whose mean is P(A > B) + ½ P(A = B).
    """
    pooled = stats.rankdata(np.concatenate([a, b]))
    below_a = pooled[: a.size] - stats.rankdata(a)
    above_b = a.size - (pooled[a.size :] - stats.rankdata(b))
    return below_a, above_b

"""Many comparisons at once: corrected p values, and the group that cannot be told from the best."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from harness.stats.arrays import Floats, as_sample
from harness.stats.paired import Wilcoxon, wilcoxon
from harness.stats.welch import welch


def holm(p: Any) -> Floats:
    """Return Holm's step-down corrected p values in the order given (Holm 1979, Scand. J. Stat. 6).

    A nan is a comparison that was not made: it stays nan and does not count among the comparisons.

    Raises:
        ValueError: when a p value lies outside [0, 1].
    """
    raw = as_sample(p)
    tested = np.flatnonzero(~np.isnan(raw))
    if np.any((raw[tested] < 0) | (raw[tested] > 1)):
        raise ValueError("p values lie in [0, 1]")
    order = tested[np.argsort(raw[tested], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    corrected = np.full(raw.shape, np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors))
    return corrected


def best_group(samples: Mapping[str, Any], alpha: float = 0.05, higher_is_better: bool = True) -> tuple[str, ...]:
    """Return the best mean and all that Welch's test does not separate from it, as names in given order.

    The rule of the AutoVI tables (paper 002, Tables 6 to 9): each sample is tested against the best one,
    two-sided, without correction for their number. A sample of fewer than two values, or with a value that is
    not finite, takes no part, for it cannot be tested; where fewer than two samples are left there is no
    comparison and no best: ().
    """
    arrays = {name: as_sample(values) for name, values in samples.items()}
    testable = {name: x for name, x in arrays.items() if x.size > 1 and np.all(np.isfinite(x))}
    if len(testable) < 2:
        return ()
    sign = 1.0 if higher_is_better else -1.0
    best = max(testable.values(), key=lambda sample: sign * float(np.mean(sample)))
    return tuple(name for name, sample in testable.items() if sample is best or welch(best, sample).pvalue >= alpha)


def best_group_paired(
    samples: Mapping[str, Mapping[Hashable, float]], alpha: float = 0.005, higher_is_better: bool = True
) -> tuple[str, ...]:
    """Return the best mean and all that Wilcoxon's signed-rank test does not separate from it, in given order.

    After paper 001, which tests the folds of a cross-validation so, at this level; the group is ours. Each sample is
    tested against the best one on the units that both have, two-sided, without correction for their number. A sample
    with a value that is not finite takes no part, and neither does one that shares fewer than :func:`pairs_needed`
    units with the best, for then no values whatever could separate them; where fewer than two samples are left there
    is no comparison and no best: ().

    Args:
        samples: name -> unit (a fold of a seed) -> value.
        alpha: level of the test.
        higher_is_better: whether the best mean is the highest.
    """
    needed = pairs_needed(alpha)
    sign = 1.0 if higher_is_better else -1.0
    able = {
        name: values
        for name, values in samples.items()
        if len(values) >= needed and all(np.isfinite(list(values.values())))
    }
    if len(able) < 2:
        return ()
    best = max(able, key=lambda name: sign * float(np.mean(list(able[name].values()))))
    shared = {name: able[best].keys() & values.keys() for name, values in able.items()}
    tested = [name for name in able if len(shared[name]) >= needed]
    if len(tested) < 2:
        return ()
    return tuple(name for name in tested if name == best or wilcoxon_by_unit(able[best], able[name]).pvalue >= alpha)


def wilcoxon_by_unit(a: Mapping[Hashable, float], b: Mapping[Hashable, float]) -> Wilcoxon:
    """Test two samples for a difference on the units that both have; what only one has is left out."""
    units = [unit for unit in a if unit in b]
    return wilcoxon([a[unit] for unit in units], [b[unit] for unit in units])


def pairs_needed(alpha: float) -> int:
    """Return how many pairs Wilcoxon's exact two-sided test takes to be able to fall below a level: 9 for 0.005.

    All n differences of one sign have p = 2 / 2ⁿ.
    """
    return math.floor(1 - math.log2(alpha)) + 1

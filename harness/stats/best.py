"""The best of several samples, and how the others stand against it: the rules behind bold numbers in tables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np

from harness.stats.arrays import as_sample
from harness.stats.multiplicity import holm
from harness.stats.paired import pairs_needed, wilcoxon_by_unit
from harness.stats.welch import welch


class AgainstBest(NamedTuple):
    """The others against the best mean.

    Attributes:
        best: its name; None where fewer than two samples can be tested.
        pvalues: name -> p value of its difference from the best, for those that can be tested; the best has none.
        holm: the same, corrected by Holm for these tests.
    """

    best: str | None
    pvalues: dict[str, float]
    holm: dict[str, float]

    def group(self, alpha: float) -> tuple[str, ...]:
        """Return the best and all that the test does not separate from it at a level, without correction."""
        return self._not_separated(self.pvalues, alpha)

    def group_after_holm(self, alpha: float) -> tuple[str, ...]:
        """Return the best and all that are not separated from it once corrected by Holm: as many or more."""
        return self._not_separated(self.holm, alpha)

    def _not_separated(self, pvalues: Mapping[str, float], alpha: float) -> tuple[str, ...]:
        return () if self.best is None else (self.best, *(name for name, p in pvalues.items() if not p < alpha))


NO_COMPARISON = AgainstBest(None, {}, {})


def against_best(samples: Mapping[str, Any], higher_is_better: bool = True) -> AgainstBest:
    """Test every sample against the one of the best mean by Welch's two-sided test.

    A sample of fewer than two values, or with a value that is not finite, takes no part; of equal best means the first
    in the order given is the best.
    """
    arrays = {name: as_sample(values) for name, values in samples.items()}
    testable = {name: x for name, x in arrays.items() if x.size > 1 and np.all(np.isfinite(x))}
    if len(testable) < 2:
        return NO_COMPARISON
    best = _best({name: float(np.mean(x)) for name, x in testable.items()}, higher_is_better)
    return _tested(best, {name: welch(testable[best], x).pvalue for name, x in testable.items() if name != best})


def best_group(samples: Mapping[str, Any], alpha: float = 0.05, higher_is_better: bool = True) -> tuple[str, ...]:
    """Return the best mean and all that Welch's test does not separate from it, in the order given.

    The rule of the AutoVI tables (paper 002, Tables 6 to 9), without correction for the number of tests. Who can be
    tested: see :func:`against_best`; where fewer than two can, there is no comparison and no best: ().
    """
    group = against_best(samples, higher_is_better).group(alpha)
    return tuple(name for name in samples if name in group)


def against_best_paired(
    samples: Mapping[str, Mapping[Hashable, float]], alpha: float = 0.005, higher_is_better: bool = True
) -> AgainstBest:
    """Test every sample against the one of the best mean by Wilcoxon's signed-rank test, on the units that both have.

    A sample with a value that is not finite takes no part, and neither does one that shares fewer than
    :func:`pairs_needed` units with the best, for then no values whatever could separate them at the level `alpha`.
    """
    needed = pairs_needed(alpha)
    able = {n: v for n, v in samples.items() if len(v) >= needed and all(map(math.isfinite, v.values()))}
    if len(able) < 2:
        return NO_COMPARISON
    best = _best({name: float(np.mean(list(values.values()))) for name, values in able.items()}, higher_is_better)
    tested = [name for name in able if name != best and len(able[best].keys() & able[name].keys()) >= needed]
    if not tested:
        return NO_COMPARISON
    return _tested(best, {name: wilcoxon_by_unit(able[best], able[name]).pvalue for name in tested})


def _best(means: Mapping[str, float], higher_is_better: bool) -> str:
    sign = 1.0 if higher_is_better else -1.0
    return max(means, key=lambda name: sign * means[name])


def _tested(best: str, pvalues: dict[str, float]) -> AgainstBest:
    corrected = holm(list(pvalues.values()))
    return AgainstBest(best, pvalues, {name: float(p) for name, p in zip(pvalues, corrected, strict=True)})

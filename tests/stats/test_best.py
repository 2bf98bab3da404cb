"""The best group by its rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.stats import (
    against_best,
    against_best_paired,
    best_group,
    holm,
    pairs_needed,
    smallest_pvalue,
    welch,
    wilcoxon_by_unit,
)


def test_best_group_keeps_what_is_not_separated() -> None:
    samples = {
        "low": [0.50, 0.51, 0.52],
        "near": [0.90, 0.94, 0.91],
        "best": [0.92, 0.93, 0.94],
    }
    assert best_group(samples) == ("near", "best")
    assert best_group(samples, higher_is_better=False) == ("low",)
    p = welch(samples["near"], samples["best"]).pvalue
    assert best_group(samples, alpha=p + 1e-9) == ("best",)


def test_best_group_without_variance() -> None:
    assert best_group({"a": [1.0, 1.0], "b": [1.0, 1.0, 1.0], "c": [0.9, 0.9]}) == ("a", "b")


def test_one_value_takes_no_part() -> None:
    assert best_group({"once": [0.99], "a": [0.9, 0.91], "b": [0.2, 0.21]}) == ("a",)
    assert best_group({"once": [0.99], "a": [0.9, 0.91]}) == ()
    assert best_group({"undefined": [math.nan, math.nan], "a": [0.9, 0.91], "b": [0.90, 0.91]}) == ("a", "b")
    assert best_group({}) == ()


@given(st.dictionaries(st.sampled_from("abcde"), st.lists(st.floats(0, 1), min_size=2, max_size=5), min_size=2))
def test_the_best_mean_is_always_in(samples: dict[str, list[float]]) -> None:
    group = best_group(samples)
    best = max(np.mean(values) for values in samples.values())
    assert any(np.mean(samples[name]) == best for name in group)


@given(st.dictionaries(st.sampled_from("abcde"), st.lists(st.floats(0, 1), min_size=2, max_size=5), min_size=2))
def test_pvalues_against_the_best_are_welchs_and_holms(samples: dict[str, list[float]]) -> None:
    found = against_best(samples)
    assert set(found.pvalues) == set(samples) - {found.best}
    assert found.pvalues == {name: welch(samples[found.best], samples[name]).pvalue for name in found.pvalues}
    assert list(found.holm.values()) == list(holm(list(found.pvalues.values())))
    assert set(found.group(0.05)) <= set(found.group_after_holm(0.05)), "a correction separates fewer"
    assert set(best_group(samples)) == set(found.group(0.05))


def folds(values: list[float]) -> dict[str, float]:
    return {f"0.{fold}": value for fold, value in enumerate(values)}


BASE = [0.90, 0.91, 0.93, 0.92, 0.95, 0.94, 0.96, 0.97, 0.98, 0.99]


def paired_group(samples: dict[str, dict[str, float]], alpha: float = 0.005, **kwargs: bool) -> set[str]:
    return set(against_best_paired(samples, alpha, **kwargs).group(alpha))


def test_pairs_tell_what_an_unpaired_test_does_not() -> None:
    """A small difference in each of ten folds has p = 2 / 2¹⁰ = 0.002, whatever the folds' own spread."""
    samples = {"best": BASE, "worse": [v - 0.001 - 0.0001 * i for i, v in enumerate(BASE)]}
    samples["near"] = [v + (0.002 if i % 2 else -0.003) for i, v in enumerate(BASE)]
    assert best_group(samples) == ("best", "worse", "near")
    paired = {name: folds(values) for name, values in samples.items()}
    assert against_best_paired(paired).pvalues["worse"] == 2 / 2**10
    assert paired_group(paired) == {"best", "near"}
    assert paired_group(paired, higher_is_better=False) == {"worse", "near"}


def test_pairing_is_by_unit_and_not_by_order() -> None:
    worse = folds([v - 0.01 for v in BASE])
    shuffled = dict(sorted(worse.items(), key=lambda item: -item[1]))
    assert paired_group({"best": folds(BASE), "worse": shuffled}) == {"best"}
    assert wilcoxon_by_unit(folds(BASE), shuffled | {"1.0": 0.5}).n == 10


def test_pairs_against_the_best_agree_with_scipy() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        a, b = rng.normal(0.9, 0.02, 10), rng.normal(0.88, 0.02, 10)
        best, other = ("a", "b") if a.mean() > b.mean() else ("b", "a")
        found = against_best_paired({"a": folds(a.tolist()), "b": folds(b.tolist())})
        assert found.best == best and found.pvalues == {other: pytest.approx(stats.wilcoxon(a, b).pvalue)}


def test_what_cannot_be_tested_by_folds_takes_no_part() -> None:
    few = {"a": folds(BASE[:8]), "b": folds([v - 0.1 for v in BASE[:8]])}
    assert paired_group(few) == set()  # no eight differences can have p < 0.005
    assert paired_group(few, alpha=0.01) == {"a"}
    broken = {"a": folds(BASE), "b": folds([math.nan, *BASE[1:]])}
    assert paired_group(broken) == set()
    apart = {"a": folds(BASE), "b": {f"1.{unit}": value for unit, value in enumerate(BASE)}}
    assert paired_group(apart) == set()


@pytest.mark.parametrize(("alpha", "pairs"), [(0.005, 9), (0.05, 6), (0.01, 8), (0.5, 3)])
def test_pairs_needed_is_the_fewest_that_can_be_significant(alpha: float, pairs: int) -> None:
    assert pairs_needed(alpha) == pairs
    assert stats.wilcoxon(np.arange(1.0, pairs + 1)).pvalue < alpha
    assert stats.wilcoxon(np.arange(1.0, pairs)).pvalue >= alpha


@given(st.floats(1e-9, 0.999))
def test_pairs_needed_and_smallest_pvalue_are_inverse(alpha: float) -> None:
    pairs = pairs_needed(alpha)
    assert smallest_pvalue(pairs) < alpha <= smallest_pvalue(pairs - 1)

"""Holm's correction by hand and by its properties; the best group by its rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.stats import best_group, best_group_paired, holm, pairs_needed, welch, wilcoxon_by_unit

PVALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_example_by_hand() -> None:
    """Four tests: 0.005·4, 0.01·3, 0.03·2, then 0.04·1 lifted to its predecessor's 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_clipped_at_one_and_ties() -> None:
    assert holm([0.5, 0.9, 0.5]) == pytest.approx([1.0, 1.0, 1.0])
    assert holm([0.01, 0.01]) == pytest.approx([0.02, 0.02])
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([]).size == 0


def test_nan_is_a_comparison_not_made() -> None:
    corrected = holm([0.01, math.nan, 0.04])
    assert corrected[[0, 2]] == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[1])


def test_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, 1.5])


@given(PVALUES, st.randoms())
def test_properties(p: list[float], random: object) -> None:
    raw, corrected = np.array(p), holm(p)
    assert np.all(corrected >= raw)
    assert np.all(corrected <= 1)
    order = np.argsort(raw, kind="stable")
    assert np.all(np.diff(corrected[order]) >= 0)
    permutation = list(range(len(p)))
    random.shuffle(permutation)  # type: ignore[attr-defined]
    assert np.allclose(holm(raw[permutation]), corrected[permutation])


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


def folds(values: list[float]) -> dict[str, float]:
    return {f"0.{fold}": value for fold, value in enumerate(values)}


BASE = [0.90, 0.91, 0.93, 0.92, 0.95, 0.94, 0.96, 0.97, 0.98, 0.99]


def test_paired_best_group_sees_what_an_unpaired_test_does_not() -> None:
    """A small difference in each of ten folds has p = 2 / 2¹⁰ = 0.002, whatever the folds' own spread."""
    samples = {"best": BASE, "worse": [v - 0.001 - 0.0001 * i for i, v in enumerate(BASE)]}
    samples["near"] = [v + (0.002 if i % 2 else -0.003) for i, v in enumerate(BASE)]
    assert best_group(samples) == ("best", "worse", "near")
    paired = {name: folds(values) for name, values in samples.items()}
    assert best_group_paired(paired) == ("best", "near")
    assert best_group_paired(paired, higher_is_better=False) == ("worse", "near")


def test_pairing_is_by_unit_and_not_by_order() -> None:
    worse = folds([v - 0.01 for v in BASE])
    shuffled = dict(sorted(worse.items(), key=lambda item: -item[1]))
    assert best_group_paired({"best": folds(BASE), "worse": shuffled}) == ("best",)
    assert wilcoxon_by_unit(folds(BASE), shuffled | {"1.0": 0.5}).n == 10


def test_paired_best_group_agrees_with_scipy() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        a, b = rng.normal(0.9, 0.02, 10), rng.normal(0.88, 0.02, 10)
        best, other = ("a", "b") if a.mean() > b.mean() else ("b", "a")
        expected = {best} if stats.wilcoxon(a, b).pvalue < 0.005 else {best, other}
        assert set(best_group_paired({"a": folds(a.tolist()), "b": folds(b.tolist())})) == expected


def test_what_cannot_be_tested_by_folds_takes_no_part() -> None:
    few = {"a": folds(BASE[:8]), "b": folds([v - 0.1 for v in BASE[:8]])}
    assert best_group_paired(few) == ()  # no eight differences can have p < 0.005
    assert best_group_paired(few, alpha=0.01) == ("a",)
    broken = {"a": folds(BASE), "b": folds([math.nan, *BASE[1:]])}
    assert best_group_paired(broken) == ()
    apart = {"a": folds(BASE), "b": {f"1.{unit}": value for unit, value in enumerate(BASE)}}
    assert best_group_paired(apart) == ()


@pytest.mark.parametrize(("alpha", "pairs"), [(0.005, 9), (0.05, 6), (0.01, 8), (0.5, 3)])
def test_pairs_needed_is_the_fewest_that_can_be_significant(alpha: float, pairs: int) -> None:
    assert pairs_needed(alpha) == pairs
    assert stats.wilcoxon(np.arange(1.0, pairs + 1)).pvalue < alpha
    assert stats.wilcoxon(np.arange(1.0, pairs)).pvalue >= alpha

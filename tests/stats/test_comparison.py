"""Holm's correction by hand and by its properties; the best group by its rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import best_group, holm, welch

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

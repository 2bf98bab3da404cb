"""The bootstrap over seeds and images: image by image with scikit-learn, by its variance, and where it is undefined."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.stats import delong, hierarchical_bootstrap

LABELS = np.repeat([0, 1], [12, 20])


def scores(seed: int, seeds: int, gain: float, labels: np.ndarray = LABELS) -> np.ndarray:
    """Rounded so that some are equal."""
    return np.random.default_rng(seed).normal(gain * labels, 1, (seeds, labels.size)).round(1)


def test_equals_resampling_image_by_image() -> None:
    """Images and seeds are repeated as often as they were drawn, and scikit-learn does the rest."""
    a, b, resamples = scores(1, 3, 1.0), scores(2, 4, 0.7), 60
    found = hierarchical_bootstrap(LABELS, a, b, resamples, confidence=0.8, seed=5)
    rng = np.random.default_rng(5)
    sizes = (3, 4, 20, 12)
    seeds_a, seeds_b, bad, good = (rng.multinomial(size, np.full(size, 1 / size), resamples) for size in sizes)
    differences = []
    for drawn in range(resamples):
        images = np.repeat(np.arange(32), np.concatenate([good[drawn], bad[drawn]]))
        means = [
            np.mean([roc_auc_score(LABELS[images], row[images]) for row in np.repeat(method, seeds[drawn], axis=0)])
            for method, seeds in ((a, seeds_a), (b, seeds_b))
        ]
        differences.append(means[0] - means[1])
    whole = [np.mean([roc_auc_score(LABELS, row) for row in method]) for method in (a, b)]
    assert found.difference == pytest.approx(whole[0] - whole[1])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.1, 0.9])))
    beyond = min(np.sum(np.array(differences) <= 1e-12), np.sum(np.array(differences) >= -1e-12))
    assert found.pvalue == pytest.approx(min(1, 2 * (1 + beyond) / 61))


def test_of_one_seed_each_is_as_wide_as_delongs_interval() -> None:
    labels = np.repeat([0, 1], [150, 150])
    a, b = scores(3, 1, 1.0, labels), scores(4, 1, 0.8, labels)
    found, expected = hierarchical_bootstrap(labels, a, b), delong(labels, a[0], b[0])
    assert found.difference == pytest.approx(expected.difference)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_seeds_that_differ_make_it_wider() -> None:
    """Of methods whose images all score alike but for the seed's gain, the interval is that of the seeds."""
    labels = np.repeat([0, 1], [200, 200])
    noise = np.random.default_rng(0).normal(size=400)
    steady = np.array([noise + 1.0 * labels] * 6)
    varied = np.array([noise + gain * labels for gain in (0.5, 0.7, 0.9, 1.1, 1.3, 1.5)])
    narrow = hierarchical_bootstrap(labels, steady, steady)
    wide = hierarchical_bootstrap(labels, varied, steady)
    assert narrow[:3] == (0, 0, 0) and narrow.pvalue == 1
    areas = np.array([roc_auc_score(labels, row) for row in varied])
    expected = 2 * 1.96 * areas.std() / math.sqrt(6)
    assert wide.high - wide.low == pytest.approx(expected, rel=0.15)


def test_sides_swap_and_it_repeats_itself() -> None:
    a, b = scores(1, 4, 1.5), scores(2, 4, 0.5)
    found, swapped = hierarchical_bootstrap(LABELS, a, b), hierarchical_bootstrap(LABELS, b, a)
    assert hierarchical_bootstrap(LABELS, a, b) == found != hierarchical_bootstrap(LABELS, a, b, seed=1)
    assert swapped.difference == -found.difference
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=0.03)
    assert found.low < found.difference < found.high


def test_scales_do_not_matter() -> None:
    a, b = scores(1, 2, 1.0), scores(2, 2, 0.5)
    each = np.exp(a) * np.array([[1.0], [1000.0]])
    assert hierarchical_bootstrap(LABELS.astype(bool), each, b - 7, 200) == hierarchical_bootstrap(LABELS, a, b, 200)


def test_smallest_pvalue() -> None:
    found = hierarchical_bootstrap(LABELS, scores(1, 3, 9.0), scores(2, 3, -9.0), resamples=99)
    assert found[:3] == (1, 1, 1)
    assert found.pvalue == 2 / 100


def test_keeps_its_level_with_many_seeds() -> None:
    rng = np.random.default_rng(8)
    labels = np.repeat([0, 1], [30, 30])
    pvalues = []
    for _ in range(300):
        images = rng.normal(labels, 1)
        a, b = (images + rng.normal(0, 0.7, (8, 60)) + labels * rng.normal(0, 0.4, (8, 1)) for _ in range(2))
        pvalues.append(hierarchical_bootstrap(labels, a, b, resamples=200).pvalue)
    assert np.mean(np.array(pvalues) < 0.05) == pytest.approx(0.05, abs=0.04)


def test_undefined_cases() -> None:
    a = scores(1, 2, 1.0)
    assert all(map(math.isnan, hierarchical_bootstrap(np.ones(32), a, a)))
    assert all(map(math.isnan, hierarchical_bootstrap([], np.ones((2, 0)), np.ones((1, 0)))))
    assert all(map(math.isnan, hierarchical_bootstrap(LABELS, a, np.where(a == a[0, 0], math.nan, a))))
    perfect = np.array([LABELS, 2 * LABELS])
    assert hierarchical_bootstrap(LABELS, perfect, perfect[:1], 100) == (0, 0, 0, 1)


def test_one_image_of_a_class_is_drawn_every_time() -> None:
    found = hierarchical_bootstrap([0, 0, 0, 1], [[1, 2, 3, 2.5]], [[1, 2, 3, 1.5]], 200)
    assert found.difference == pytest.approx(1 / 3)
    assert 0 <= found.low < found.high <= 1


def test_refuses_nonsense() -> None:
    a = scores(1, 2, 1.0)
    with pytest.raises(ValueError, match="seeds x 32 images"):
        hierarchical_bootstrap(LABELS, a, a[:, :30])
    with pytest.raises(ValueError, match="seeds x 32 images"):
        hierarchical_bootstrap(LABELS, a, np.ones((0, 32)))
    with pytest.raises(ValueError, match="two dimensions"):
        hierarchical_bootstrap(LABELS, a, a[0])
    with pytest.raises(ValueError, match="0 or 1"):
        hierarchical_bootstrap(LABELS + 1, a, a)
    with pytest.raises(ValueError, match="resample"):
        hierarchical_bootstrap(LABELS, a, a, resamples=0)
    with pytest.raises(ValueError, match="confidence"):
        hierarchical_bootstrap(LABELS, a, a, confidence=95)

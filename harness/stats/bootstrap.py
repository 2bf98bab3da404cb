"""A bootstrap over seeds and images at once, for the mean AUROC of two methods."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from harness.stats.arrays import Floats, as_labels, as_matrix, check_share


class Bootstrap(NamedTuple):
    """Difference of mean image AUROC, a − b, as fractions; all nan where there is none."""

    difference: float
    low: float  # percentile interval
    high: float
    pvalue: float  # two-sided


def hierarchical_bootstrap(
    labels: Any,
    scores_a: Any,
    scores_b: Any,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Compare the mean AUROC of two methods over seeds that were tested on the same images.

    Each resample draws seeds with replacement, for either method by itself (seeds are not paired, and their numbers
    may differ), and images with replacement among the anomalous and among the good ones, the same for both methods
    and all seeds. So the interval holds for other seeds and other images of the same kind at once. The p value is
    twice the smaller share of resamples at or beyond zero, (1 + count) / (1 + resamples) so that it is never 0.

    Of one seed only images are resampled: the result is then of that trained model and not of its method. Of few
    seeds the bootstrap knows (S − 1) / S of the variance between S of them, so that the interval is too narrow. Two
    perfect methods stay so in every resample: interval [0, 0], p = 1. One class only, or a score that is not finite:
    all nan.

    Args:
        labels: (N,), 1 or True = anomalous.
        scores_a: (S, N) raw scores of one method, a row a seed, higher = more anomalous; each row on its own scale.
        scores_b: (T, N) of the other.
        resamples: of the bootstrap; memory grows with resamples × N.
        confidence: of the interval.
        seed: of the bootstrap; the same seed gives the same result.

    Raises:
        ValueError: when shapes do not fit, there is no seed or no resample, a label is neither 0 nor 1, or the
            confidence does not lie between 0 and 1.
    """
    check_share("confidence", confidence)
    if resamples < 1:
        raise ValueError(f"a bootstrap has at least one resample, not {resamples}")
    anomalous, methods = as_labels(labels), (as_matrix(scores_a), as_matrix(scores_b))
    for scores in methods:
        if len(scores) == 0 or scores.shape[1] != anomalous.size:
            raise ValueError(f"scores are seeds x {anomalous.size} images, not of shape {scores.shape}")
    bad, good = np.flatnonzero(anomalous), np.flatnonzero(~anomalous)
    if min(bad.size, good.size) == 0 or not all(np.isfinite(scores).all() for scores in methods):
        return Bootstrap(math.nan, math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    # One column a resample, after a first in which everything is drawn once.
    seeds_a, seeds_b, of_bad, of_good = (
        np.hstack([np.ones((size, 1)), rng.multinomial(size, np.full(size, 1 / size), resamples).T])
        for size in (len(methods[0]), len(methods[1]), bad.size, good.size)
    )
    wins_a, wins_b = (
        sum(drawn * _wins(row[bad], row[good], of_bad, of_good) for drawn, row in zip(seeds, scores, strict=True))
        for seeds, scores in zip((seeds_a, seeds_b), methods, strict=True)
    )
    # Whole numbers up to here, so that equal means differ by exactly zero.
    pairs = 2 * bad.size * good.size * len(methods[0]) * len(methods[1])
    differences = (wins_a * len(methods[1]) - wins_b * len(methods[0])) / pairs
    difference, resampled = differences[0], differences[1:]
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    beyond = min(np.count_nonzero(resampled <= 0), np.count_nonzero(resampled >= 0))
    pvalue = min(1.0, 2 * (1 + int(beyond)) / (1 + resamples))
    return Bootstrap(float(difference), float(low), float(high), pvalue)


def _wins(bad: Floats, good: Floats, of_bad: Floats, of_good: Floats) -> Floats:
    """Return how many pairs of a bad and a good image each resample (R,) puts in order, twice, so that ties count one.

    `of_bad` (N bad, R) and `of_good` (N good, R) say how often each image was drawn.
    """
    order = np.argsort(good)
    drawn = np.zeros((good.size + 1, of_good.shape[1]))  # of the good images up to each, by score
    np.cumsum(of_good[order], axis=0, out=drawn[1:])
    below, up_to = (np.searchsorted(good[order], bad, side) for side in ("left", "right"))
    return np.asarray(np.einsum("ir,ir->r", of_bad, drawn[below] + drawn[up_to]))

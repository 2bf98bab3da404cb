"""How large a difference is, in no unit: effect sizes with their intervals."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from harness.stats.arrays import Floats, as_pairs, as_sample, check_share, mean_and_std, summarize
from harness.stats.placements import placements

_LARGE_T = 1e4  # beyond it the noncentrality is in proportion to t, to 1e-8 of it a degree of freedom


class Effect(NamedTuple):
    """An effect size with its interval; positive, or above ½ for a probability, where a is the larger."""

    value: float
    low: float
    high: float


def hedges_g(a: Any, b: Any, confidence: float = 0.95) -> Effect:
    """Return Hedges' g: the difference of means in pooled standard deviations, corrected for bias.

    g = J (mean a − mean b) / s with the exact J = Γ(m / 2) / (√(m / 2) Γ((m − 1) / 2)), m = n_a + n_b − 2 (Hedges 1981,
    J. Educ. Stat. 6). The interval is that of the population's standardised difference by the noncentral t
    distribution (Steiger and Fouladi 1997): exact for normal samples of equal variance, and so not shrunk by J, which
    corrects the point. Variances that differ are pooled all the same: g is then of no population, and
    :func:`probability_of_superiority` says more.

    A sample of fewer than two values, or with a value that is not finite: all nan. No variance in either sample: ±inf
    (also low and high) where the means differ and nan where they are equal, for there is no unit to measure in.

    Args:
        a: one-dimensional array-like of independent observations.
        b: the same; the lengths may differ.
        confidence: of the interval.

    Raises:
        ValueError: when the confidence does not lie between 0 and 1.
    """
    return hedges_g_from_summary(*summarize(a), *summarize(b), confidence)


def hedges_g_from_summary(
    mean_a: float, std_a: float, n_a: int, mean_b: float, std_b: float, n_b: int, confidence: float = 0.95
) -> Effect:
    """Return Hedges' g of two published "mean ± std over n"; arguments as in `welch_from_summary`.

    Undefined cases are as in :func:`hedges_g`.

    Raises:
        ValueError: when a standard deviation is negative or the confidence does not lie between 0 and 1.
    """
    check_share("confidence", confidence)
    if std_a < 0 or std_b < 0:
        raise ValueError(f"a standard deviation is not negative: {min(std_a, std_b)}")
    difference = mean_a - mean_b
    if min(n_a, n_b) < 2 or not all(map(math.isfinite, (difference, std_a, std_b))):
        return Effect(math.nan, math.nan, math.nan)
    df = n_a + n_b - 2
    pooled = math.hypot(std_a * math.sqrt((n_a - 1) / df), std_b * math.sqrt((n_b - 1) / df))
    if pooled == 0.0:
        value = math.copysign(math.inf, difference) if difference else math.nan
        return Effect(value, value, value)
    d, root = difference / pooled, math.sqrt(n_a * n_b / (n_a + n_b))
    bounds = [_noncentrality(abs(d) * root, df, tail) / root for tail in ((1 - confidence) / 2, (1 + confidence) / 2)]
    low, high = bounds if d >= 0 else (-bounds[1], -bounds[0])
    return Effect(_bias_correction(df) * d, low, high)


def probability_of_superiority(a: Any, b: Any, confidence: float = 0.95) -> Effect:
    """Return P(A > B) + ½ P(A = B): the chance that a run of a beats one of b, ties half.

    Also known as the common language effect size, Vargha and Delaney's A and Mann and Whitney's U / (n_a n_b). The
    interval is symmetric on the logit scale, with the variance of the placements (DeLong et al. 1988; Brunner and
    Munzel 2000, Biom. J. 42), which assumes neither equal variances nor a distribution. At 0 and 1, and where no
    placement differs (all values equal), that variance is zero and the interval is Newcombe's method 5 instead (2006,
    Stat. Med. 25): a score interval of the same parameter, which is never of no width.

    A sample of one value: low and high are nan. A sample that is empty or has a value that is not finite: all nan.

    Args:
        a: one-dimensional array-like of independent observations.
        b: the same; the lengths may differ.
        confidence: of the interval.

    Raises:
        ValueError: when the confidence does not lie between 0 and 1.
    """
    check_share("confidence", confidence)
    a, b = as_sample(a), as_sample(b)
    if min(a.size, b.size) == 0 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Effect(math.nan, math.nan, math.nan)
    below_a, above_b = placements(a, b)
    value = float(below_a.sum()) / (a.size * b.size)
    if min(a.size, b.size) < 2:
        return Effect(value, math.nan, math.nan)
    error_a = mean_and_std(below_a)[1] / b.size / math.sqrt(a.size)
    error_b = mean_and_std(above_b)[1] / a.size / math.sqrt(b.size)
    error = math.hypot(error_a, error_b)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    if error == 0.0 or value in (0.0, 1.0):
        return Effect(value, _newcombe_low(value, a.size, b.size, z), 1 - _newcombe_low(1 - value, a.size, b.size, z))
    half = z * error / (value * (1 - value))
    low, high = special.expit(special.logit(value) + np.array([-half, half]))
    return Effect(value, float(low), float(high))


def rank_biserial(a: Any, b: Any, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Effect:
    """Return the matched-pairs rank-biserial correlation: rank sum for a minus that for b, by their total.

    The effect size of Wilcoxon's signed-rank test (King and Minium 2003; Kerby 2014, Compr. Psychol. 3), with its
    rules: pairs without a difference are dropped and tied sizes share their average rank; 1 where a is never the
    smaller. The interval is a BCa bootstrap over all pairs (Efron 1987, JASA 82), the same for the same seed.

    Where all n pairs that differ have one sign, every resample has it too. The other bound is then taken from Clopper
    and Pearson's interval for the share π of that sign: the correlation is at least 2 π² − 1, for two differences of
    one sign have a sum of that sign. No pair that differs: 0 in [-1, 1], nothing being known. Fewer than two pairs, or
    a value that is not finite: all nan.

    Args:
        a: one-dimensional array-like; `a[i]` belongs to `b[i]`.
        b: the same, of the same length.
        confidence: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: when the lengths differ, there is no resample or the confidence does not lie between 0 and 1.
    """
    check_share("confidence", confidence)
    if resamples < 1:
        raise ValueError(f"a bootstrap has at least one resample, not {resamples}")
    a, b = as_pairs(a, b)
    differences = a - b
    if a.size < 2 or not np.isfinite(differences).all():
        return Effect(math.nan, math.nan, math.nan)
    value = float(_rank_biserial(differences[None])[0])
    nonzero = int(np.count_nonzero(differences))
    if nonzero == 0 or abs(value) == 1.0:
        share = ((1 - confidence) / 2) ** (1 / nonzero) if nonzero else 0.0
        bound = 2 * share**2 - 1
        return Effect(value, -1.0 if value < 0 else bound, 1.0 if value >= 0 else -bound)
    rng = np.random.default_rng(seed)
    resampled = _rank_biserial(differences[rng.integers(0, a.size, (resamples, a.size))])
    jackknife = _rank_biserial(np.array([np.delete(differences, i) for i in range(a.size)]))
    return Effect(value, *_bca(value, resampled, jackknife, confidence))


def _noncentrality(t: float, df: float, tail: float) -> float:
    """Return the noncentrality at which t or more has the chance `tail`, for t of 0 or more.

    The noncentral t is (Z + noncentrality) / U, so the noncentrality is a quantile of t U − Z and lies between those
    of its parts.
    """
    if t > _LARGE_T:
        return _noncentrality(_LARGE_T, df, tail) * t / _LARGE_T
    share = min(tail, 1 - tail) / 2
    spread = float(stats.norm.isf(share))
    least, most = (math.sqrt(float(quantile(share, df)) / df) for quantile in (stats.chi2.ppf, stats.chi2.isf))
    return float(
        optimize.brentq(lambda nc: stats.nct.sf(t, df, nc) - tail, t * least - spread, t * most + spread, xtol=1e-12)
    )


def _bias_correction(df: int) -> float:
    """Return Hedges' J, the factor that makes a standardised difference unbiased."""
    return math.exp(float(special.gammaln(df / 2) - special.gammaln((df - 1) / 2))) / math.sqrt(df / 2)


def _newcombe_low(value: float, n_a: int, n_b: int, z: float) -> float:
    """Return the smallest probability that is z standard errors away at most; the upper bound is that of 1 − value."""
    if value == 0.0:
        return 0.0
    others = (n_a + n_b) / 2 - 1

    def outside(p: float) -> float:
        variance = p * (1 - p) * (1 + others * ((1 - p) / (2 - p) + p / (1 + p))) / (n_a * n_b)
        return (value - p) ** 2 - z**2 * variance

    return float(optimize.brentq(outside, 0.0, value * (1 - 1e-9)))


def _rank_biserial(differences: Floats) -> Floats:
    """Return the correlation of every row, 0 where no pair differs."""
    differ = differences != 0.0
    zeros = (~differ).sum(axis=1, keepdims=True)
    ranks = np.where(differ, stats.rankdata(np.abs(differences), axis=1) - zeros, 0.0)
    return np.asarray((np.sign(differences) * ranks).sum(axis=1) / np.maximum(ranks.sum(axis=1), 1.0))


def _bca(value: float, resampled: Floats, jackknife: Floats, confidence: float) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval (Efron 1987, JASA 82)."""
    below = (np.mean(resampled < value) + np.mean(resampled <= value)) / 2
    half_step = 1 / (2 * resampled.size)
    bias = stats.norm.ppf(np.clip(below, half_step, 1 - half_step))
    influence = jackknife.mean() - jackknife
    size = float(np.square(influence).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * size) if size > 0.0 else 0.0
    z = bias + stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(resampled, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)

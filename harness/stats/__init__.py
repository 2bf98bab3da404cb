"""Statistical tests on plain arrays: pure functions, no I/O, no plotting, no MLflow.

The unit of every test is what the caller passes as one observation (a seed, a fold, a category); name it in
the report.
"""

from harness.stats.best import AgainstBest, against_best, against_best_paired, best_group
from harness.stats.bootstrap import Bootstrap, hierarchical_bootstrap
from harness.stats.delong import DeLong, delong
from harness.stats.effects import Effect, hedges_g, hedges_g_from_summary, probability_of_superiority, rank_biserial
from harness.stats.equivalence import Tost, tost, tost_from_summary
from harness.stats.intervals import (
    Difference,
    Interval,
    mean_difference,
    mean_difference_from_summary,
    prediction_interval,
)
from harness.stats.multiplicity import benjamini_hochberg, holm
from harness.stats.paired import Wilcoxon, pairs_needed, smallest_pvalue, wilcoxon, wilcoxon_by_unit
from harness.stats.power import detectable_points, seeds_needed, seeds_needed_for_points
from harness.stats.ranks import Friedman, cliques, critical_difference, friedman, nemenyi, wilcoxon_posthoc
from harness.stats.resampled import NadeauBengio, nadeau_bengio
from harness.stats.stability import Stability, stability
from harness.stats.welch import Welch, welch, welch_from_summary

__all__ = [
    "AgainstBest",
    "Bootstrap",
    "DeLong",
    "Difference",
    "Effect",
    "Friedman",
    "Interval",
    "NadeauBengio",
    "Stability",
    "Tost",
    "Welch",
    "Wilcoxon",
    "against_best",
    "against_best_paired",
    "benjamini_hochberg",
    "best_group",
    "cliques",
    "critical_difference",
    "delong",
    "detectable_points",
    "friedman",
    "hedges_g",
    "hedges_g_from_summary",
    "hierarchical_bootstrap",
    "holm",
    "mean_difference",
    "mean_difference_from_summary",
    "nadeau_bengio",
    "nemenyi",
    "pairs_needed",
    "prediction_interval",
    "probability_of_superiority",
    "rank_biserial",
    "seeds_needed",
    "seeds_needed_for_points",
    "smallest_pvalue",
    "stability",
    "tost",
    "tost_from_summary",
    "welch",
    "welch_from_summary",
    "wilcoxon",
    "wilcoxon_by_unit",
    "wilcoxon_posthoc",
]

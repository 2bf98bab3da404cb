"""Statistical tests on plain arrays: pure functions, no I/O, no plotting, no MLflow.

The unit of every test is what the caller passes as one observation (a seed, a fold, a category); name it in
the report.
"""

from harness.stats.comparison import best_group, best_group_paired, holm, pairs_needed, wilcoxon_by_unit
from harness.stats.paired import Wilcoxon, wilcoxon
from harness.stats.stability import Stability, stability
from harness.stats.welch import Welch, welch, welch_from_summary

__all__ = [
    "Stability",
    "Welch",
    "Wilcoxon",
    "best_group",
    "best_group_paired",
    "holm",
    "pairs_needed",
    "stability",
    "welch",
    "welch_from_summary",
    "wilcoxon",
    "wilcoxon_by_unit",
]

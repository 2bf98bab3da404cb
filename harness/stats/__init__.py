"""Statistical tests on plain arrays: pure functions, no I/O, no plotting, no MLflow.

The unit of every test is what the caller passes as one observation (a seed, a fold, a category); name it in
the report.
"""

from harness.stats.comparison import best_group, holm
from harness.stats.paired import Wilcoxon, wilcoxon
from harness.stats.welch import Welch, welch, welch_from_summary

__all__ = ["Welch", "Wilcoxon", "best_group", "holm", "welch", "welch_from_summary", "wilcoxon"]

"""Metrics on raw scores and raw maps: pure functions on NumPy arrays (torch tensors too, without torch).

The modules `image`, `curves`, `thresholds`, `pixel` and `classes` say what their functions share: shapes, units, ties,
errors.
"""

from harness.metrics.classes import (
    DefectRecalls,
    aql,
    class_metrics,
    correct_class_recall,
    defect_recall,
    recalls_by_defect,
    weighted_ovr_auroc,
)
from harness.metrics.curves import (
    MeanCurve,
    PrecisionRecallCurve,
    RocCurve,
    auroc_of_mean_roc,
    mean_precision_recall,
    mean_roc,
    precision_recall_curve,
    roc_curve,
)
from harness.metrics.image import (
    F1Threshold,
    f1_max,
    f1_max_threshold,
    image_ap,
    image_auroc,
    image_metrics,
    recall_at_precision,
    tpr_at_tnr,
)
from harness.metrics.pixel import PixelEvaluator, aupro, auspro, pixel_ap, pixel_auroc
from harness.metrics.thresholds import Confusion, confusion, threshold_at_fpr

__all__ = [
    "Confusion",
    "DefectRecalls",
    "F1Threshold",
    "MeanCurve",
    "PixelEvaluator",
    "PrecisionRecallCurve",
    "RocCurve",
    "aql",
    "aupro",
    "auroc_of_mean_roc",
    "auspro",
    "class_metrics",
    "confusion",
    "correct_class_recall",
    "defect_recall",
    "f1_max",
    "f1_max_threshold",
    "image_ap",
    "image_auroc",
    "image_metrics",
    "mean_precision_recall",
    "mean_roc",
    "pixel_ap",
    "pixel_auroc",
    "precision_recall_curve",
    "recall_at_precision",
    "recalls_by_defect",
    "roc_curve",
    "threshold_at_fpr",
    "tpr_at_tnr",
    "weighted_ovr_auroc",
]

"""Metrics on raw scores and raw maps: pure functions on NumPy arrays (torch tensors too, without torch).

The modules `image` and `pixel` say what their functions share: shapes, units, ties and errors.
"""

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

__all__ = [
    "F1Threshold",
    "PixelEvaluator",
    "aupro",
    "auspro",
    "f1_max",
    "f1_max_threshold",
    "image_ap",
    "image_auroc",
    "image_metrics",
    "pixel_ap",
    "pixel_auroc",
    "recall_at_precision",
    "tpr_at_tnr",
]

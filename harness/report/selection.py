"""Image AUROC by the way in which the epoch is chosen, so that the optimism of the best on test shows as a number."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.report.measures import Measure
from harness.report.summary import summarise_all
from harness.report.tables import SELECTIONS, Table, tall

CHOICES = (
    Measure("test/image_auroc", "Last epoch", tested=False),
    Measure("validation/image_auroc", "Best on validation", tested=False),
    Measure("oracle/image_auroc", "Best on test (oracle)", tested=False),
)
CAPTION = (
    "Image AUROC of the trainable methods on the test images, in percent, at the last epoch, at the epoch that the "
    "validation images choose (–: none were held out), and at the epoch that is best on the test images themselves "
    "(oracle: no result, but what choosing on the test would claim)."
)


def selection_tables(trained: pd.DataFrame, labels: Sequence[str]) -> list[Table]:
    """Return the table of the trainable runs that logged an oracle's value; none without such runs."""
    if trained.empty:
        return []
    runs = trained.assign(**{m.key: float("nan") for m in CHOICES if m.key not in trained.columns})
    numbers = summarise_all(runs, CHOICES)
    title = "Image AUROC by the choice of the epoch"
    return [tall("image_auroc_by_epoch_choice", title, SELECTIONS, CAPTION, CHOICES, numbers, labels)]

"""Runs as the report's frame of them, without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

Values = Mapping[tuple[str, str], Sequence[float]]  # label, category -> image AUROC of each seed


def runs_of(values: Values, dataset: str = "set", folds: int = 0) -> pd.DataFrame:
    """Return runs with these image AUROCs; with folds, values are those of each fold of each seed in turn."""
    rows = []
    for (label, category), of_cell in values.items():
        for i, value in enumerate(of_cell):
            seed, fold = (divmod(i, folds)) if folds else (i, "")
            rows.append(
                {
                    "run_id": f"{label}-{category}-{i}",
                    "label": label,
                    "method": label.partition(" (")[0],
                    "dataset": dataset,
                    "category": category,
                    "seed": seed,
                    "fold": str(fold),
                    "unit": f"{seed}.{fold}" if folds else str(seed),
                    "test/image_auroc": value,
                }
            )
    return pd.DataFrame(rows)

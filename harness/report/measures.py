"""What a report can tabulate: metrics, their names, units and order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Measure:
    """One column of the runs frame and how it reads."""

    key: str  # the MLflow metric
    title: str
    unit: str = "%"
    scale: float = 100.0  # from the stored value to the unit
    tested: bool = True  # the best group is marked
    higher_is_better: bool = True
    note: str = ""  # for the caption

    @property
    def name(self) -> str:
        """A file name: `image_auroc`, `time_train`."""
        return self.key.removeprefix("test/").replace("/", "_").replace(" ", "_")


COUNT = "images"
PRECISIONS = ("99.6", "95", "90")
ON_TEST = "The threshold behind it is chosen on the test images, as in papers (see Thresholds for others)."
OPTIMISM = Measure("oracle_minus_last/image_auroc", "Oracle optimism of image AUROC", "percentage points", tested=False)

ACCURACIES = (
    Measure("test/image_auroc", "Image AUROC"),
    Measure("test/image_ap", "Image AP"),
    Measure("test/pixel_auroc", "Pixel AUROC"),
    Measure("test/pixel_ap", "Pixel AP"),
    Measure("test/aupro", "AUPRO (FPR up to 0.30)"),
    Measure("test/auspro", "AUsPRO (FPR up to 0.05)"),
    Measure("test/f1_max", "F1-max", note=ON_TEST),
    *(Measure(f"test/tpr_at_tnr_{p}", f"TPR at TNR {p} %", note=ON_TEST) for p in ("99", "95", "90")),
    *(Measure(f"test/recall_at_precision_{p}", f"Recall at precision {p} %", note=ON_TEST) for p in PRECISIONS),
    Measure("test/class_auroc_ovr", "Weighted one-versus-rest AUROC of the classes"),
    Measure("test/correct_class_recall", "Correct-class recall of defective images"),
    Measure("test/defect_recall", "Defect recall"),
    Measure("test/aql", "AQL (100 − defect recall)", higher_is_better=False),
    Measure("val/image_auroc", "Image AUROC on the validation images", note="By this settings may be chosen."),
)

RESOURCES = {"time/": ("Time", "s"), "speed/": ("Speed", "images/s"), "memory/": ("Memory", "MiB")}
TITLES = {
    "time/train": "Training time",
    "time/evaluation": "Time of the evaluation after each epoch, in all",
    "time/saved": "Time that stored features saved",
    "speed/images_per_second": "Inference speed",
    "memory/host_peak": "Peak memory of the process",
    "memory/device_peak": "Peak memory of the device",
}

TIMINGS = tuple(  # of runs with timing=true
    Measure(f"timing/{key}", title, unit, scale, tested=False)
    for key, title, unit, scale in (
        ("train", "Training time, measured apart", "s", 1.0),
        ("latency_first", "Inference time of the very first image", "ms", 1000.0),
        ("latency_median", "Inference time of an image, median", "ms", 1000.0),
        ("latency_p95", "Inference time of an image, 95th percentile", "ms", 1000.0),
        ("images_per_second", "Inference speed in batches, measured apart", "images/s", 1.0),
        ("train_peak_memory", "Peak memory of the process in training", "MiB", 1.0),
        ("inference_peak_memory", "Peak memory of the process in inference", "MiB", 1.0),
        ("inference_peak_device_memory", "Peak memory of the device in inference", "MiB", 1.0),
        ("model_size", "Size of parameters and buffers", "MiB", 1.0),
    )
)


def measures(runs: pd.DataFrame, wanted: Sequence[str] = ()) -> list[Measure]:
    """Return what the runs have, in the report's order, or what is wanted, in the order wanted.

    Raises:
        ConfigError: when a wanted metric was not logged by any of the runs.
    """
    resources = [
        Measure(key, TITLES.get(key, f"{title}: {key.partition('/')[2]}"), unit, 1.0, tested=False)
        for prefix, (title, unit) in RESOURCES.items()
        for key in sorted(column for column in runs.columns if column.startswith(prefix))
    ]
    known = (*ACCURACIES, *_of_defects(runs), *resources, *TIMINGS)
    present = [m for m in known if m.key in runs.columns and runs[m.key].notna().any()]
    if not wanted:
        return present
    others = [Measure(key, key) for key in runs.columns if key.startswith("test/") and runs[key].notna().any()]
    by_name = {name: m for m in (*others, *present) for name in (m.name, m.key)}
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        possible = ", ".join(m.name for m in present)
        near = did_you_mean(unknown[0], by_name)
        raise ConfigError(f"No run has the metric {unknown[0]}{near}; metrics can be: {possible}.")
    return list(dict.fromkeys(by_name[name] for name in wanted))


def _of_defects(runs: pd.DataFrame) -> list[Measure]:
    """Return the recalls of every kind of defect (paper 001, Table 2)."""
    titles = {"correct_class_recall": "Correct-class recall", "defect_recall": "Defect recall"}
    keys = sorted(column for column in runs.columns if column.startswith("defect/"))
    return [Measure(key, f"{titles[key.split('/')[2]]} of {key.split('/')[1]}") for key in keys]


def with_optimism(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the trainable runs with what choosing the epoch on the test set would have added, a run each."""
    if not {"oracle/image_auroc", "test/image_auroc"} <= set(runs.columns):
        return runs.iloc[:0].assign(**{OPTIMISM.key: pd.Series(dtype=float)})
    trained = runs[runs["trainable"] & runs["oracle/image_auroc"].notna()]
    return trained.assign(**{OPTIMISM.key: trained["oracle/image_auroc"] - trained["test/image_auroc"]})

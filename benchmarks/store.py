"""A large MLflow store in the runner's contract, filled by SQL: what ten thousand runs would have logged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mlflow import MlflowClient

METHODS = (
    "auto_classifier", "cflow", "draem", "draem_perlin", "dsr", "efficient_ad", "efficient_ad_train_norm",
    "encoder_decoder", "encoder_decoder_no_noise", "encoder_decoder_no_skips", "ganomaly", "map_assisted_classifier",
    "padim", "padim_autovi", "padim_vin", "patchcore", "patchcore_autovi", "radl", "simplenet", "skip_ganomaly",
)  # fmt: skip
MEMORY_BANKS = ("padim", "padim_autovi", "padim_vin", "patchcore", "patchcore_autovi")
EPOCH_METRICS = (
    "test/image_auroc", "test/image_ap", "test/pixel_auroc", "test/pixel_ap", "test/aupro", "test/auspro",
    "test/f1_max", "test/tpr_at_tnr_99", "test/tpr_at_tnr_95", "test/tpr_at_tnr_90", "test/recall_at_precision_99.6",
    "test/recall_at_precision_95", "test/recall_at_precision_90", "train/loss", "val/image_auroc", "val/image_ap",
    "val/pixel_auroc", "val/pixel_ap", "val/aupro", "val/f1_max",
)  # fmt: skip
LAST_METRICS = (
    "oracle/image_auroc", "validation/image_auroc", "time/train", "time/evaluation", "speed/images_per_second",
    "memory/host_peak", "threshold/fpr_5/fpr", "threshold/fpr_5/fnr", "threshold/fpr_5/recall", "threshold/fpr_5/f1",
)  # fmt: skip


class Size(NamedTuple):
    """How much is in the store."""

    methods: int
    datasets: int
    categories: int
    seeds: int
    epochs: int

    @property
    def runs(self) -> int:
        """Number of finished runs."""
        return self.methods * self.datasets * self.categories * self.seeds


def fill(path: Path, size: Size, experiment: str = "large") -> None:
    """Make the database and write every run's tags, params, and 30 metrics at each epoch."""
    MlflowClient(tracking_uri=f"sqlite:///{path}").create_experiment(experiment)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    (number,) = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", (experiment,)).fetchone()
    rng = np.random.default_rng(0)
    with connection:
        for index, (method, dataset, category, seed) in enumerate(_cells(size)):
            run = f"{index:032x}"
            own = {
                "run_uuid": run, "name": f"{method}/{category}/{seed}", "user_id": "", "source_type": "UNKNOWN",
                "status": "FINISHED", "start_time": index, "end_time": index + 1, "lifecycle_stage": "active",
                "artifact_uri": f"file:///none/{run}/artifacts", "experiment_id": number,
            }  # fmt: skip
            places = ", ".join(f":{name}" for name in own)
            connection.execute(f"INSERT INTO runs ({', '.join(own)}) VALUES ({places})", own)
            for table, values in (("tags", _tags(index, method, dataset, category, seed)),
                                  ("params", _params(method, dataset, category, seed, size.epochs))):  # fmt: skip
                rows = [(key, value, run) for key, value in values.items()]
                connection.executemany(f"INSERT INTO {table} (key, value, run_uuid) VALUES (?, ?, ?)", rows)
            metrics = _metrics(rng, METHODS.index(method), size.epochs)
            columns = "key, value, timestamp, run_uuid, step, is_nan"
            rows = [(k, v, 0, run, step, 0) for k, values in metrics.items() for step, v in enumerate(values)]
            connection.executemany(f"INSERT INTO metrics ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rows)
            last = [(k, values[-1], 0, run, len(values) - 1, 0) for k, values in metrics.items()]
            connection.executemany(f"INSERT INTO latest_metrics ({columns}) VALUES (?, ?, ?, ?, ?, ?)", last)
    connection.close()


def _cells(size: Size) -> Iterator[tuple[str, str, str, int]]:
    for method in METHODS[: size.methods]:
        for dataset in range(size.datasets):
            for category in range(size.categories):
                for seed in range(size.seeds):
                    yield method, f"set_{dataset}", f"part_{category:02d}", seed


def _tags(index: int, method: str, dataset: str, category: str, seed: int) -> dict[str, str]:
    tags = {
        "run_key": f"{index:020x}", "method": method, "dataset": dataset, "category": category, "seed": str(seed),
        "protocol": "one_class", "weights": "resnet18:0123456789ab", "data_fingerprint": f"{dataset}-{category}",
        "git_commit": "c0ffee", "version": "0.1.0", "device": "cpu", "libraries": "torch=2.9.0,anomalib=2.7.0",
        "trainable": str(method not in MEMORY_BANKS).lower(), "features": "none", "finished": "true",
    }  # fmt: skip
    return {f"harness.{key}": value for key, value in tags.items()}


def _params(method: str, dataset: str, category: str, seed: int, epochs: int) -> dict[str, str]:
    own = {
        "method.name": method, "method.epochs": str(epochs), "dataset.name": dataset, "dataset.layout": "mvtec",
        "category": category, "seed": str(seed), "protocol.name": "one_class", "preprocess.size": "256",
        "backbone.name": "resnet18", "trainer.max_epochs": str(epochs), "trainer.precision": "32-true",
        "trainer.quick": "False", "timing": "False", "trainer.eval_batch_size": "32",
    }  # fmt: skip
    return own | {f"method.setting_{i}": str(i) for i in range(20)} | {f"trainer.other_{i}": str(i) for i in range(26)}


def _metrics(rng: np.random.Generator, method: int, epochs: int) -> dict[str, list[float]]:
    level = 0.75 + 0.01 * method + rng.normal(0, 0.01)
    rise = 1 - 0.3 * np.exp(-np.arange(epochs) / 2)
    found = {}
    for name in EPOCH_METRICS:
        found[name] = [float(v) for v in level * rise + rng.normal(0, 0.002, epochs)]
    return found | {name: [float(v) for v in np.full(epochs, level) + rng.normal(0, 0.002)] for name in LAST_METRICS}

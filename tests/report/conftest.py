"""Real MLflow stores, written as the runner's contract says."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

PARAMS = {
    "radl": {"method.loss": "hce", "method.fdfa": "True", "method.epochs": "40", "method.tau": "0.5"},
    "patchcore": {"method.epochs": "1", "method.coreset_sampling_ratio": "0.1"},
    "padim": {"method.epochs": "1"},
}


class Store:
    """Writes runs to `folder/mlflow.db`, in the tags, params and metrics of the runner's contract."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=self.uri)
        self.experiments: dict[str, str] = {}
        self.count = 0

    def add(
        self,
        method: str,
        category: str,
        seed: int,
        *,
        level: float = 0.9,
        epochs: int = 1,
        dataset: str = "toy",
        experiment: str = "study",
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        metrics: dict[str, float] | None = None,
        curve: Sequence[float] | None = None,
        status: str = "FINISHED",
        start: int | None = None,
        timing: bool = False,
    ) -> str:
        """Write one run and return its id.

        `level` is its last image AUROC (none in a run for times), `metrics` are its own or replace the store's at the
        last epoch, and `curve` is its image AUROC of each epoch.
        """
        self.count += 1
        if experiment not in self.experiments:
            self.experiments[experiment] = self.client.create_experiment(experiment)
        run = self.client.create_run(
            self.experiments[experiment], start or self.count, run_name=f"{method}/{category}/{seed}"
        )
        own = {
            "method.name": method,
            "seed": str(seed),
            "category": category,
            "dataset.name": dataset,
            "preprocess.size": "256",
            "backbone.name": "resnet18",
            "trainer.max_epochs": str(epochs),
            "trainer.precision": "32-true",
            "trainer.workers": str(self.count % 2),
            "timing": str(timing),
        }
        own |= PARAMS.get(method, {}) | (params or {})
        named = {
            "run_key": f"key{self.count}",
            "method": method,
            "dataset": dataset,
            "category": category,
            "protocol": "one_class",
            "seed": str(seed),
            "weights": "random:0123",
            "data_fingerprint": f"data-of-{category}",
            "git_commit": "c0ffee",
            "version": "0.1.0",
            "device": "cpu",
            "libraries": "torch=2.9.0,anomalib=2.7.0",
            "trainable": "true" if method == "radl" else "false",
            "finished": "true",
        } | (tags or {})
        self.client.log_batch(
            run.info.run_id,
            metrics=self._replaced(self._metrics(method, level, epochs, seed, timing), epochs, metrics or {}, curve),
            params=[Param(key, value) for key, value in own.items()],
            tags=[RunTag(f"harness.{key}", value) for key, value in named.items() if value],
        )
        self.client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    def _replaced(
        self, logged: list[Metric], epochs: int, metrics: dict[str, float], curve: Sequence[float] | None
    ) -> list[Metric]:
        own = _at(epochs - 1, metrics)
        own += [Metric("test/image_auroc", value, 0, epoch) for epoch, value in enumerate(curve or ())]
        places = {(metric.key, metric.step) for metric in own}
        return [metric for metric in logged if (metric.key, metric.step) not in places] + own

    def _metrics(self, method: str, level: float, epochs: int, seed: int, timing: bool) -> list[Metric]:
        logged: list[Metric] = []
        if timing:
            return _at(epochs - 1, {"timing/latency_median": 0.012, "timing/train": 55.0})
        rng = np.random.default_rng(self.count)
        for epoch in range(epochs):
            late = 0.0 if epoch == epochs - 1 else 0.3 * math.exp(-epoch / 3) + rng.normal(0, 0.01)
            names = ("image_auroc", "pixel_auroc", "aupro", "image_ap", "pixel_ap")
            logged += _at(epoch, {f"test/{name}": level - late - i * 0.01 for i, name in enumerate(names)})
            if method == "radl":
                logged += _at(epoch, {"train/loss": 0.1 + 0.7 * math.exp(-epoch / 4) + 0.01 * seed})
        last = {"test/f1_max": level - 0.05, "test/tpr_at_tnr_99": level - 0.3, "time/train": 12.3 + seed}
        last |= {"test/recall_at_precision_99.6": level - 0.4, "speed/images_per_second": 81.0 + seed}
        last |= {"oracle/image_auroc": level + 0.02 if method == "radl" else level, "memory/peak": 512.0}
        return logged + _at(epochs - 1, last)


def _at(step: int, values: dict[str, float]) -> list[Metric]:
    return [Metric(key, value, 0, step) for key, value in values.items()]


@pytest.fixture(scope="session")
def make_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """Return a maker of empty stores: copies of one, for MLflow takes seconds to make a database."""
    template = tmp_path_factory.mktemp("template")
    MlflowClient(tracking_uri=f"sqlite:///{template / 'mlflow.db'}").search_experiments()

    def make(name: str) -> Store:
        folder = tmp_path_factory.mktemp(name) / "runs"
        shutil.copytree(template, folder)
        return Store(folder)

    return make


CATEGORIES = ("texture", "missing_part", "50%_<b>|edge & #1")
LEVELS = {"patchcore": 0.93, "radl": 0.95}


def fill(store: Any, skip: tuple[str, str, int] | None = None) -> None:
    """Write a grid: RADL in two settings and PatchCore, three categories (one of an awkward name), three seeds."""
    for i, category in enumerate(CATEGORIES):
        for seed in range(3):
            wobble = (0.001, -0.004, 0.006)[(seed + i) % 3] - 0.02 * i
            for method, level in LEVELS.items():
                if (method, category, seed) == skip:
                    continue
                store.add(method, category, seed, level=level + wobble, epochs=6 if method == "radl" else 1)
            old = {"method.loss": "truncated_l1", "method.fdfa": "False"}
            store.add("radl", category, seed, level=0.8 + 3 * wobble, epochs=6, params=old)


@pytest.fixture(scope="session")
def grid(make_store: Callable[[str], Store]) -> Store:
    """A complete grid; do not write to it."""
    store = make_store("grid")
    fill(store)
    store.add("radl", "texture", 9, status="FAILED", tags={"finished": ""})
    store.add("radl", "texture", 8, status="KILLED", tags={"finished": ""})
    store.add("radl", "texture", 7, status="FINISHED", tags={"finished": ""})
    store.add("patchcore", "texture", 0, experiment="elsewhere", tags={"run_key": "elsewhere-0"}, level=0.5)
    return store

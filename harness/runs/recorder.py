"""The Lightning callback that evaluates every epoch, writes it to MLflow and keeps what the end of a run needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from harness.errors import TrainingError
from harness.runs.evaluate import Evaluation, Predictions, predict
from harness.runs.tracking import TrackedRun

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader

Report = Callable[[int, Mapping[str, float]], None]


class EpochRecorder(Callback):
    """Measures the test images after every epoch.

    An epoch counts as over when Lightning has run all of its hooks (a memory bank is filled in the last one), so the
    evaluation of epoch e happens as epoch e + 1 starts, or as training ends.

    Args:
        run: the MLflow run.
        loader: test images.
        evaluation: their ground truth.
        report: told every epoch's metrics, for the progress line.
        saved_seconds: what stored features have saved until now.
    """

    def __init__(
        self,
        run: TrackedRun,
        loader: DataLoader,
        evaluation: Evaluation,
        report: Report,
        saved_seconds: Callable[[], float],
    ) -> None:
        self._run, self._loader, self._evaluation, self._report = run, loader, evaluation, report
        self._saved_seconds = saved_seconds
        self.history: list[dict[str, float]] = []
        self.predictions: Predictions | None = None
        self.evaluation_seconds = 0.0  # as measured
        self.evaluation_saved_seconds = 0.0  # what stored features saved of it
        self._losses: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the epoch's mean losses, which Lightning forgets as the next epoch starts."""
        self._losses = {_loss_name(name): float(value) for name, value in trainer.callback_metrics.items()}
        for name, value in self._losses.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"{name} is {value} in epoch {trainer.current_epoch}: the training diverged; "
                    "lower the learning rate, or use trainer.precision=32-true."
                )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the epoch before this one."""
        if trainer.current_epoch > 0:
            self._evaluate(pl_module, trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the last epoch."""
        self._evaluate(pl_module, trainer)

    def _evaluate(self, model: Any, trainer: Trainer) -> None:
        started, saved = time.perf_counter(), self._saved_seconds()
        epoch = len(self.history)
        self.predictions = predict(model, self._loader, trainer.precision_plugin.forward_context())
        metrics = {f"test/{name}": v for name, v in self._evaluation.measure(self.predictions).items()}
        metrics |= self._losses
        self.history.append(metrics)
        self._run.log(metrics, step=epoch)
        self._report(epoch, metrics)
        self.evaluation_seconds += time.perf_counter() - started
        self.evaluation_saved_seconds += self._saved_seconds() - saved


def best_epoch(history: list[dict[str, float]]) -> int | None:
    """Return the earliest epoch with the best image AUROC on the test set: the oracle's choice, never the result."""
    scores = [metrics.get("test/image_auroc", -math.inf) for metrics in history]
    return scores.index(max(scores)) if scores and max(scores) > -math.inf else None


def _loss_name(name: str) -> str:
    """Map the names that models log under to `train/…`; anomalib's models say `train_loss` or `loss`."""
    if name.startswith("train/"):
        return name
    return f"train/{name.removeprefix('train_')}"

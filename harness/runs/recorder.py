"""The Lightning callback that evaluates every epoch, writes it to MLflow and keeps what the end of a run needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from lightning.pytorch import Callback
from numpy.typing import NDArray

from harness.data.records import Sample
from harness.errors import TrainingError
from harness.runs.evaluate import Evaluation, Predictions, predict
from harness.runs.tracking import TrackedRun
from harness.runs.watch import Watcher

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

Report = Callable[[int, Mapping[str, float]], None]


class Part(NamedTuple):
    """Images that are scored after every epoch, and the prefix of their metrics: `test` or `val`."""

    name: str
    samples: Sequence[Sample]
    loader: Any
    evaluation: Evaluation


class EpochRecorder(Callback):
    """Measures the test images, and the validation images where there are some, after every epoch.

    An epoch counts as over when Lightning has run all of its hooks (a memory bank is filled in the last one), so the
    evaluation of epoch e happens as epoch e + 1 starts, or as training ends.

    Args:
        run: the MLflow run.
        parts: what is scored.
        report: told every epoch's metrics, for the progress line.
        saved_seconds: what stored features have saved until now.
        watcher: told every epoch's metrics too, and may end the run.
    """

    def __init__(
        self,
        run: TrackedRun,
        parts: Sequence[Part],
        report: Report,
        saved_seconds: Callable[[], float],
        watcher: Watcher | None = None,
    ) -> None:
        self._run, self._parts, self._report = run, parts, report
        self._saved_seconds, self._watcher = saved_seconds, watcher
        self.history: list[dict[str, float]] = []
        self.predictions: dict[str, Predictions] = {}  # of the last epoch, by the part's name
        self.scores: dict[str, list[NDArray[np.float32]]] = {part.name: [] for part in parts}  # of every epoch
        self.evaluation_seconds = 0.0  # as measured
        self.evaluation_saved_seconds = 0.0  # what stored features saved of it
        self._losses: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the epoch's mean losses, which Lightning forgets as the next epoch starts."""
        self._losses = _losses({name: float(value) for name, value in trainer.callback_metrics.items()})
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
        metrics = dict(self._losses)
        for part in self._parts:
            found = predict(model, part.loader, trainer.precision_plugin.forward_context())
            self.predictions[part.name] = found
            self.scores[part.name].append(found.scores)
            metrics |= {f"{part.name}/{name}": value for name, value in part.evaluation.measure(found).items()}
        self.history.append(metrics)
        self._run.log(metrics, step=epoch)
        self._report(epoch, metrics)
        self.evaluation_seconds += time.perf_counter() - started
        self.evaluation_saved_seconds += self._saved_seconds() - saved
        if self._watcher is not None:
            self._watcher.see(epoch, metrics)


def best_epoch(history: list[dict[str, float]], judge: str) -> int | None:
    """Return the earliest epoch with the best image AUROC on the images called `judge`, if it was measured there.

    On the test images (`test`) it is the oracle's choice, never the result.
    """
    scores = [metrics.get(f"{judge}/image_auroc", -math.inf) for metrics in history]
    return scores.index(max(scores)) if scores and max(scores) > -math.inf else None


def _losses(logged: Mapping[str, float]) -> dict[str, float]:
    """Return an epoch's means of what a model logged; where Lightning keeps a step's value too, they end in _epoch."""
    forked = {name.removesuffix("_step") for name in logged if name.endswith("_step")}
    forked = {name for name in forked if f"{name}_epoch" in logged}
    twins = {f"{name}{kind}" for name in forked for kind in ("_step", "_epoch")}
    means = {name: logged[f"{name}_epoch"] for name in forked}
    return {_loss_name(name): value for name, value in (dict(logged) | means).items() if name not in twins}


def _loss_name(name: str) -> str:
    """Map the names that models log under to `train/…` and `val/…`; anomalib's models say `train_loss` or `loss`."""
    split, _, rest = name.replace("/", "_", 1).partition("_")
    return f"{split}/{rest}" if split in ("train", "val") and rest else f"train/{name}"

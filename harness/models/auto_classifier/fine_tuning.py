"""How the CNNs of Auto-Classifier are trained and their epochs chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.visualization import Visualizer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import nn
from torch.optim import SGD

from harness.errors import TrainingError
from harness.models.components.checkpoints import keep_settings_only
from harness.models.components.classification import ClassifierModule

from .loss import MemberLoss
from .selection import BestEpoch, validated
from .torch_model import FusionModel


class FineTuned(ClassifierModule):
    """Fine-tune the networks of `model`, each kept as it was after its best validation epoch.

    The networks learn side by side from the same batches and share nothing. Validation follows every epoch and must
    have good and defective images. Until the last epoch the model has its current weights, and the votes that they
    earned; as the last epoch ends, before Lightning's `on_train_end`, every network returns to its best epoch.

    Logged each epoch are `train/loss` (the networks' sum), and of each network, with `_<network>` where there are
    several: `train/loss`, `train/validation_auroc` and `train/chosen_epoch`, the best one until then.

    The epochs seen are not part of a checkpoint: training that resumes from one chooses among the epochs to come.
    """

    model: FusionModel

    def __init__(
        self,
        classes: Sequence[str],
        learning_rate: float,
        momentum: float,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(classes, pre_processor, post_processor, evaluator, visualizer)
        self.loss = MemberLoss()
        self.learning_rate, self.momentum = learning_rate, momentum
        self._best: dict[str, BestEpoch] = {}
        self._validated: list[tuple[torch.Tensor, torch.Tensor]] = []  # logits and targets of each batch
        self._trained_on: set[int] = set()  # class indices
        keep_settings_only(self)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return stochastic gradient descent with momentum and a constant rate (Table 9)."""
        return SGD(self.model.parameters(), lr=self.learning_rate, momentum=self.momentum)

    def on_train_start(self) -> None:
        """Forget an earlier training.

        Raises:
            TrainingError: without validation images.
        """
        if not self.trainer.enable_validation:
            raise _no_validation()
        self._best = {name: BestEpoch() for name in self.model.networks}
        self._trained_on.clear()

    def training_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the loss of a batch of labelled images."""
        del args, kwargs
        targets = self.targets(batch)
        losses = self.loss(self.model(batch.image), targets)
        if len(self._trained_on) < len(self.classes):  # a look at the values makes a GPU wait
            self._trained_on.update(targets.tolist())
        named = self._named("loss", losses.detach().unbind()) | {"train/loss": losses.detach().sum()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(targets))
        return losses.sum()

    def on_validation_epoch_start(self) -> None:
        """Forget the images of the epoch before."""
        self._validated.clear()

    def validation_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Return the batch with scores added."""
        del args, kwargs
        assert batch.image is not None
        logits = self.model.logits(batch.image)
        self._validated.append((logits.cpu(), self.targets(batch).cpu()))
        return batch.update(pred_score=self.model.fuse(logits).pred_score)

    def on_validation_epoch_end(self) -> None:
        """Rate the networks: keep the weights of those that were never better, and set the votes."""
        if self.trainer.state.fn != TrainerFn.FITTING or self.trainer.sanity_checking:
            return
        self._require_classes()
        probabilities = torch.cat([logits for logits, _ in self._validated], dim=1).double().softmax(dim=-1).numpy()
        targets = torch.cat([targets for _, targets in self._validated]).numpy()
        results = [validated(of_network, targets) for of_network in probabilities]
        for (name, best), result in zip(self._best.items(), results, strict=True):
            best.offer(self.trainer.current_epoch, result, self.model.networks[name])
        self.model.weigh(results)
        self.log_dict(self._named("validation_auroc", [result.auroc for result in results]))
        self.log_dict(self._named("chosen_epoch", [float(best.epoch or 0) for best in self._best.values()]))

    def on_train_epoch_end(self) -> None:
        """Finish with the last epoch: callbacks that evaluate in `on_train_end` run before the model's own."""
        if self.trainer.current_epoch + 1 == self.trainer.max_epochs:
            self._finish()

    def on_train_end(self) -> None:
        """Finish a training that something other than the number of epochs ended."""
        if self._best:
            self._finish()

    def _finish(self) -> None:
        """Return every network to its best epoch, with the votes that it earned there."""
        results = [best.result for best in self._best.values() if best.result is not None]
        if not results:
            raise _no_validation()
        for name, best in self._best.items():
            best.restore(self.model.networks[name])
        self.model.weigh(results)
        self._best = {}

    def _require_classes(self) -> None:
        if 0 not in self._trained_on or len(self._trained_on) < 2:
            only = ", ".join(self.classes[index] for index in sorted(self._trained_on))
            raise TrainingError(
                f"All training images are of class {only}, but {type(self).__name__} learns to tell good images from "
                "defective ones: choose a protocol that trains on both (protocol=supervised)."
            )

    def _named(self, quantity: str, values: Iterable[Any]) -> dict[str, Any]:
        """Return a value for each network under the name that it is logged by."""
        networks = list(self.model.networks)
        ends = [""] if len(networks) == 1 else [f"_{name}" for name in networks]
        return {f"train/{quantity}{end}": value for end, value in zip(ends, values, strict=True)}


def _no_validation() -> TrainingError:
    return TrainingError(
        "Auto-Classifier chooses its epoch on validation images, and there are none: give a validation loader "
        "(protocol=supervised, or method.holdout=0.15)."
    )

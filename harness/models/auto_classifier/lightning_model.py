"""Auto-Classifier as anomalib models: one CNN, a fusion of several, and a searched head."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from anomalib.metrics import Evaluator
from anomalib.visualization import Visualizer
from torch import nn

from harness.models.components.classification import BINARY

from .automl import Features, Targets, search
from .fine_tuning import FineTuned
from .torch_model import AutomlModel, FusionModel, classifier, short_names

logger = logging.getLogger(__name__)

PAPER = ("vgg11", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101")


class AutoClassifier(FineTuned):
    """One fine-tuned CNN, a row of paper 004's Table 11: the supervised baseline (section 3.2, Tables 3 and 9).

    Every layer is trained from ImageNet weights with a new last layer: learning rate 0.001, momentum 0.9, 30 epochs
    at 256×256 (Table 9). The weights of the epoch with the best validation result are kept (section 3.3). Low
    shot ratio 100 (Table 9): all training images. The paper standardises each image (section 3.1), which is the
    pre-processor's task; the default one is anomalib's.

    What the paper leaves open, and the assumption here:

    * The result that chooses the epoch: AUROC of 1 − p(good), the paper's main metric, then the lower cross-entropy,
      then the earlier epoch. With several kinds of defect too.
    * The optimiser, not named: SGD, which alone has a momentum to set.
    * Batch size, not given: 32 (the data's).
    * Class imbalance, not mentioned: cross-entropy without class weights, images drawn as they are.
    * Learning rate policy and weight decay, not given: constant, none.
    * The networks are timm's; its VGGs, unlike torchvision's, have no dropout, and take images of any size.

    Args:
        backbone: a timm model name, or a classification network of timm (changed in place).
        pre_trained: load timm's weights when `backbone` is a name.
        classes: names of the classes; `good` first.
        learning_rate: SGD's.
        momentum: SGD's.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: for classes that are not possible, or a network without a classifier.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet50",
        pre_trained: bool = True,
        classes: Sequence[str] = BINARY,
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(classes, learning_rate, momentum, pre_processor, post_processor, evaluator, visualizer)
        self.model = FusionModel({"network": classifier(backbone, len(self.classes), pre_trained)})


class AutoClassifierFusion(FineTuned):
    """CNN-Fusion: the weighted vote of several fine-tuned CNNs (paper 004, section 3.2; Table 3, Fusion).

    The networks are trained as by :class:`AutoClassifier`, all in one run, each kept at its own best epoch.

    What the paper leaves open, and the assumption here:

    * The metric that weights the votes ("the better, the more weight"): validation AUROC, the paper's main metric,
      divided by the networks' sum.
    * What is voted: class probabilities, since the result shall serve as an anomaly score.

    Args:
        backbones: timm model names, or classification networks of timm by name (changed in place).
        pre_trained: load timm's weights when `backbones` are names.
        classes: names of the classes; `good` first.
        learning_rate: SGD's.
        momentum: SGD's.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: for classes that are not possible, a network without a classifier, or one given twice.
    """

    def __init__(
        self,
        backbones: Sequence[str] | Mapping[str, nn.Module] = PAPER,
        pre_trained: bool = True,
        classes: Sequence[str] = BINARY,
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(classes, learning_rate, momentum, pre_processor, post_processor, evaluator, visualizer)
        named = short_names(backbones)
        self.model = FusionModel({n: classifier(net, len(self.classes), pre_trained) for n, net in named.items()})


class AutoClassifierAutoml(FineTuned):
    """The best CNN with a searched classifier in place of its last layer (paper 004, section 3.2; Table 3, AutoML).

    The networks are trained as by :class:`AutoClassifier`; the one with the best validation result goes on. Every
    epoch but the last shows that network with its own last layer, the last one the searched classifier.

    What the paper leaves open, and the assumption here:

    * The best CNN: the paper takes ResNet50, best in its test results; its training time (Table 4) has room for that
      network alone, and so has the default. Of several `backbones` validation chooses.
    * Features of the last convolutional layer (section 4): its spatial mean.
    * The search: the paper cites H2O's AutoML. Here Optuna's TPE draws from scikit-learn's counterparts of H2O's
      families; each candidate is trained on the training images' features and judged on the validation images', and
      the winner is not trained again on both. H2O's stacked ensembles have no counterpart.
    * Training images are seen once more for their features, as the training loader gives them.

    Args:
        backbones: timm model names, or classification networks of timm by name (changed in place).
        pre_trained: load timm's weights when `backbones` are names.
        classes: names of the classes; `good` first.
        learning_rate: SGD's.
        momentum: SGD's.
        trials: how many classifiers the search tries.
        pre_processor: as in anomalib.
        post_processor: as in anomalib.
        evaluator: as in anomalib.
        visualizer: as in anomalib.

    Raises:
        ConfigError: for classes that are not possible, a network without a classifier, or one given twice.
    """

    model: AutomlModel

    def __init__(
        self,
        backbones: Sequence[str] | Mapping[str, nn.Module] = ("resnet50",),
        pre_trained: bool = True,
        classes: Sequence[str] = BINARY,
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        trials: int = 50,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(classes, learning_rate, momentum, pre_processor, post_processor, evaluator, visualizer)
        named = {n: classifier(net, len(self.classes), pre_trained) for n, net in short_names(backbones).items()}
        self.model = AutomlModel(named, len(self.classes))
        self.trials = trials

    def _finish(self) -> None:
        """Return to the best epoch and search a head for the best network."""
        super()._finish()
        seed = int(torch.randint(2**31, ()))
        train, validation = self._features(self.trainer.train_dataloader), self._features(self.trainer.val_dataloaders)
        settings = search(train, validation, len(self.classes), self.trials, seed)
        self.model.head.fit(*train, settings)
        logger.info("AutoML head: %s", settings)

    @torch.no_grad()
    def _features(self, loaders: Any) -> tuple[Features, Targets]:
        """Return the best network's features (N, D) and the class indices (N) of all images."""
        features, targets = [], []
        training = self.model.training
        self.model.eval()
        with self.trainer.precision_plugin.forward_context():
            for loader in loaders if isinstance(loaders, list | tuple) else [loaders]:
                for batch in loader:
                    images = batch.image.to(self.device)
                    images = self.pre_processor(images) if self.pre_processor is not None else images
                    features.append(self.model.features(images).cpu().numpy())
                    targets.append(self.targets(batch).cpu().numpy())
        self.model.train(training)
        return np.concatenate(features), np.concatenate(targets)

"""AutoML: a search over scikit-learn's classifiers on fixed features, and the head that it finds."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import torch
from anomalib.models.components import DynamicBufferMixin
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .selection import Validated, validated

Settings = dict[str, str | int | float]  # JSON: `family`, `random_state` and the classifier's own
Features = NDArray[np.float32]
Targets = NDArray[np.int64]


@dataclass(frozen=True)
class Family:
    """A kind of classifier: how it is built, and what is searched of it."""

    build: Callable[..., Any]
    suggest: Callable[[optuna.Trial], Settings]


def _scaled(kind: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda **settings: make_pipeline(StandardScaler(), kind(**fixed, **settings))


def _linear(trial: optuna.Trial) -> Settings:
    return {"C": trial.suggest_float("linear_C", 1e-4, 1e2, log=True)}


def _trees(name: str) -> Callable[[optuna.Trial], Settings]:
    return lambda trial: {
        "n_estimators": trial.suggest_int(f"{name}_n_estimators", 50, 500, log=True),
        "min_samples_leaf": trial.suggest_int(f"{name}_min_samples_leaf", 1, 10),
        "max_features": trial.suggest_categorical(f"{name}_max_features", ["sqrt", "log2"]),
    }


def _boosting(trial: optuna.Trial) -> Settings:
    return {
        "learning_rate": trial.suggest_float("boosting_learning_rate", 0.01, 0.3, log=True),
        "max_iter": trial.suggest_int("boosting_max_iter", 20, 200, log=True),
        "max_leaf_nodes": trial.suggest_int("boosting_max_leaf_nodes", 4, 31),
        "max_features": trial.suggest_float("boosting_max_features", 0.05, 1.0, log=True),
    }


def _perceptron(trial: optuna.Trial) -> Settings:
    return {
        "hidden_layer_sizes": trial.suggest_int("perceptron_hidden", 16, 256, log=True),
        "alpha": trial.suggest_float("perceptron_alpha", 1e-6, 1e-1, log=True),
        "learning_rate_init": trial.suggest_float("perceptron_learning_rate", 1e-4, 1e-2, log=True),
    }


# The families that H2O's AutoML, which the paper cites, trains, each by scikit-learn's counterpart.
FAMILIES = {
    "linear": Family(_scaled(LogisticRegression, max_iter=1000), _linear),
    "random_forest": Family(RandomForestClassifier, _trees("random_forest")),
    "extra_trees": Family(ExtraTreesClassifier, _trees("extra_trees")),
    "boosting": Family(HistGradientBoostingClassifier, _boosting),
    "perceptron": Family(_scaled(MLPClassifier), _perceptron),
}


def build(settings: Settings) -> Any:
    """Return the untrained scikit-learn classifier that settings describe."""
    own = {name: value for name, value in settings.items() if name != "family"}
    return FAMILIES[str(settings["family"])].build(**own)


def search(
    train: tuple[Features, Targets], validation: tuple[Features, Targets], classes: int, trials: int, seed: int
) -> Settings:
    """Return the settings that, trained on one set, do best on the other; of equals the first tried.

    Args:
        train: features (N, D) and class indices (N).
        validation: the same of the images that choose.
        classes: number of classes, those without an image included.
        trials: how many classifiers are tried.
        seed: of Optuna's TPE sampler and of every classifier.

    Raises:
        TrainingError: when validation lacks good or defective images.
    """
    best: tuple[Validated, Settings] | None = None

    def objective(trial: optuna.Trial) -> float:
        nonlocal best
        family = trial.suggest_categorical("family", list(FAMILIES))
        settings: Settings = {"family": family, "random_state": seed, **FAMILIES[family].suggest(trial)}
        probabilities = _probabilities(_fit(settings, *train), validation[0], classes)
        result = validated(probabilities, validation[1])
        if best is None or result > best[0]:
            best = result, settings
        return result.auroc

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(objective, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    assert best is not None
    return best[1]


class SearchedHead(DynamicBufferMixin):
    """A scikit-learn classifier whose state is its training data and its settings.

    No object of scikit-learn is stored, so no weights file can bring code along: a loaded head trains again, which
    is deterministic, when it is first used.

    Args:
        classes: number of classes.
    """

    features: torch.Tensor
    targets: torch.Tensor
    settings_json: torch.Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("features", torch.empty(0, 0))
        self.register_buffer("targets", torch.empty(0, dtype=torch.long))
        self.register_buffer("settings_json", torch.empty(0, dtype=torch.uint8))
        self._estimator: Any = None

    @property
    def fitted(self) -> bool:
        """Whether there is a classifier."""
        return len(self.targets) > 0

    @property
    def settings(self) -> Settings:
        """What the search found."""
        settings: Settings = json.loads(bytes(self.settings_json.tolist()))
        return settings

    def fit(self, features: Features, targets: Targets, settings: Settings) -> None:
        """Train a classifier on features (N, D) and class indices (N)."""
        device = self.targets.device
        self.features = torch.tensor(features, device=device)  # a copy: NumPy's memory cannot be resized on loading
        self.targets = torch.tensor(targets, device=device)
        self.settings_json = torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8, device=device)
        self._estimator = _fit(settings, features, targets)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (N, classes) of features (N, D)."""
        if self._estimator is None:
            self._estimator = _fit(self.settings, self.features.cpu().numpy(), self.targets.cpu().numpy())
        probabilities = _probabilities(self._estimator, features.detach().float().cpu().numpy(), self.classes)
        return torch.from_numpy(probabilities).to(features)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._estimator = None


def _fit(settings: Settings, features: Features, targets: Targets) -> Any:
    with warnings.catch_warnings():  # the search judges what a classifier reaches in its iterations
        warnings.simplefilter("ignore", ConvergenceWarning)
        return build(settings).fit(features, targets)


def _probabilities(estimator: Any, features: Features, classes: int) -> NDArray[np.float64]:
    """Return (N, classes): a class that had no training image has probability 0."""
    probabilities = np.zeros((len(features), classes))
    probabilities[:, estimator.classes_] = estimator.predict_proba(features)
    return probabilities

"""What a run will cost, judged by the runs that are in the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from omegaconf import DictConfig

from harness.data.looking import looking
from harness.data.protocols import split
from harness.identity import Identity, epochs, identify, split_seed
from harness.runs.overview import SeenRun
from harness.schema import validate
from harness.terminal import counted


class Estimate(NamedTuple):
    """What a run will cost."""

    seconds: float
    artifacts: float  # bytes
    ground: str  # what it is judged by, in words


def examine(config: DictConfig) -> Identity:
    """Return a run's identity, having looked at all that can be seen before it runs; no data set is made for it.

    Raises:
        AwaitedError: when the run itself would download its images.
        HarnessError: when it could not be run.
    """
    validate(config)
    with looking():
        identity = identify(config)
    split(identity.category, config.protocol, split_seed(config, identity.fingerprint))
    if config.preprocess.mode == "window":
        from harness.runs.execute import refuse_large_window  # MLflow and torch take seconds to import

        refuse_large_window(config, identity)
    return identity


class Past:
    """The finished runs of a store, asked for what others will cost.

    Args:
        runs: all runs that are seen in the store.
    """

    def __init__(self, runs: Iterable[SeenRun]) -> None:
        self.finished = {run.key: run for run in runs if run.state == "finished"}
        self._kinds: dict[tuple[str, ...], list[SeenRun]] = {}
        for run in self.finished.values():
            kind = (
                run.tags.get("method", ""),
                run.params.get("preprocess.size", ""),
                run.params.get("timing", "False"),
            )
            self._kinds.setdefault(kind, []).append(run)
        self._known: dict[tuple[object, ...], Estimate | None] = {}  # seeds cost the same

    def estimate(self, config: DictConfig, identity: Identity) -> Estimate | None:
        """Return what a run will cost, by the median of those like it; None where there are none."""
        kind = (config.method.name, str(config.preprocess.size), str(bool(config.timing)))
        case = (*kind, epochs(config), identity.fingerprint)
        if case not in self._known:
            alike = self._kinds.get(kind, [])
            same = [run for run in alike if run.tags.get("data_fingerprint") == identity.fingerprint]
            images = len(identity.category.samples)
            self._known[case] = _judged(same or alike, epochs(config), images, "" if same else " on other images")
        return self._known[case]


def _judged(runs: Sequence[SeenRun], epochs: int, images: int, where: str) -> Estimate | None:
    if not runs:
        return None
    seconds = median(run.seconds * _scale(epochs, images, run) for run in runs)
    artifacts = median(int(run.tags.get("artifacts_bytes", 0)) for run in runs)
    return Estimate(seconds, artifacts, f"{counted(len(runs))}{where}")


def _scale(epochs: int, images: int, run: SeenRun) -> float:
    """Return how much more work a run is than one of the past: by epochs and images."""
    before = int(run.tags.get("images", 0))
    return epochs / run.epochs * (images / before if before else 1.0)

"""One trial after the other: reserved from the study, run as any run of the harness, told to the study."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from optuna.trial import Trial, TrialState

from harness.errors import ConfigError
from harness.grid import Cell
from harness.identity import epochs, tuned_on_test
from harness.runs.execute import execute, open_store
from harness.runs.outcome import Outcome
from harness.runs.tracking import STUDY, TRIAL
from harness.runs.watch import PrunedError
from harness.schema import register
from harness.tuning.plan import Plan
from harness.tuning.study import DONE, REASON, SharedStudy

RUN_ID, RUN_KEY, REUSED = "run_id", "run_key", "reused"
_POLL_SECONDS = 2.0


@lru_cache(maxsize=1)
def open_study(directory: Path, name: str, maximise: bool) -> SharedStudy:
    """Return this process's handle of a study."""
    return SharedStudy(directory, name, maximise)


def prepare() -> None:
    """Make a fresh process one that trials can run in."""
    register()


@dataclass(frozen=True)
class TrialRunner:
    """Runs the next trial of a study; can be sent to another process.

    Attributes:
        plan: what is tuned.
        total: finished and pruned trials that the study is to have.
        deadline: seconds since the epoch after which none is begun.
        study_run: the MLflow run of the study, under which those of the trials nest.
    """

    plan: Plan
    total: int
    deadline: float | None
    study_run: str

    def __call__(self, cell: Cell) -> Outcome:
        """Run the next trial, whatever the cell says; `skipped` when there is none left to run."""
        plan = self.plan
        study = open_study(plan.directory, plan.name, plan.maximise)
        seed = (plan.digest, plan.config.seed)
        with study.next_trial(plan.space.distributions, self.total, self.deadline, seed) as trial:
            if trial is None:
                return Outcome("skipped")
            config = plan.trial_config(trial.params)
            study.set_pruner(epochs(config), plan.prune)
            outcome = self._execute(trial, config)
            outcome = self._tell(study, trial, config, outcome)
        _print(study, plan, trial, outcome, self.total)
        return outcome

    def _execute(self, trial: Trial, config: DictConfig) -> Outcome:
        watcher = _TrialWatcher(trial, self.plan, config, self.study_run)
        while (outcome := execute(config, watcher)).status == "busy":  # another study's trial, or a sweep's run
            time.sleep(_POLL_SECONDS)
        return outcome

    def _tell(self, study: SharedStudy, trial: Trial, config: DictConfig, outcome: Outcome) -> Outcome:
        """Tell the study what became of a trial; a run without the objective has failed."""
        if outcome.status == "pruned":
            study.tell(trial, None, TrialState.PRUNED, **{REASON: outcome.reason, RUN_KEY: outcome.run_key})
            return outcome
        if outcome.status != "failed" and self.plan.objective not in outcome.metrics:
            outcome = Outcome("failed", reason=missing(self.plan.objective, outcome.metrics))
        if outcome.status == "failed":
            study.tell(trial, None, TrialState.FAIL, **{REASON: outcome.reason})
            return outcome
        reused = outcome.status == "skipped"
        if reused:  # finished before: the pruner learns from its epochs as from any other's
            store = open_store(**config.tracking)
            for epoch, value in store.history(outcome.run_id, self.plan.objective).items():
                trial.report(value, epoch)
        notes = {RUN_ID: outcome.run_id, RUN_KEY: outcome.run_key, REUSED: reused}
        study.tell(trial, outcome.metrics[self.plan.objective], TrialState.COMPLETE, **notes)
        return outcome


class _TrialWatcher:
    """Reports the objective of every epoch to the study, and prunes."""

    def __init__(self, trial: Trial, plan: Plan, config: DictConfig, study_run: str) -> None:
        self._trial, self._objective, self._last = trial, plan.objective, epochs(config) - 1
        tags = {STUDY: plan.name, TRIAL: str(trial.number), "mlflow.parentRunId": study_run}
        self.tags: Mapping[str, str] = tags | test_tag(plan, config)

    def see(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take an epoch's metrics; the last one's are never pruned."""
        if self._objective not in metrics:
            raise ConfigError(missing(self._objective, metrics))
        self._trial.report(metrics[self._objective], epoch)
        if epoch < self._last and self._trial.should_prune():
            raise PrunedError(f"pruned after epoch {epoch} with {self._objective} {metrics[self._objective]:.4f}")


def test_tag(plan: Plan, config: DictConfig) -> dict[str, str]:
    """Return the tag of a run whose settings are chosen on test images: here, and before by its paper.

    A trial of the method's own values chooses nothing.
    """
    changed = [name for name in plan.space.distributions if config.method[name] != plan.config.method[name]]
    if not plan.on_test or not changed:
        return {}
    return {"harness.tuned_on_test": ",".join(dict.fromkeys([*tuned_on_test(config), *plan.space.distributions]))}


def missing(objective: str, metrics: Mapping[str, float]) -> str:
    """Return the sentence about an objective that is not measured."""
    group = objective.partition("/")[0]
    measured = sorted(name for name in metrics if name.startswith(f"{group}/")) or sorted(metrics)
    return f"tune.objective={objective} is not measured in this run; measured are {', '.join(measured)}."


def described(params: Mapping[str, Any]) -> str:
    """Return settings as they would be typed."""
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())


def _print(study: SharedStudy, plan: Plan, trial: Trial, outcome: Outcome, total: int) -> None:
    """Print a line on a trial that is over."""
    done = sum(other.state in DONE for other in study.trials())
    words = [f"{done:>{len(str(total))}}/{total}  trial {trial.number}"]
    if outcome.status in ("failed", "pruned"):
        told = outcome.reason.partition("\n")[0]
        words += [f"failed: {told}" if outcome.status == "failed" else told]
    else:
        words += [f"{plan.objective} {outcome.metrics[plan.objective]:.4f}"]
    words += [described(trial.params)]
    if best := study.best():
        words += [f"best {best.value:.4f} (trial {best.number})"]
    print("  ".join(words), file=sys.stderr, flush=True)

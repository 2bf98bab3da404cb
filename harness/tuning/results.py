"""What a study leaves behind: the best configuration as a method, and the study's page, plots and table of trials."""

from __future__ import annotations

import csv
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from harness.tuning.page import page
from harness.tuning.plan import Plan
from harness.tuning.plots import draw
from harness.tuning.runner import REUSED, RUN_ID, RUN_KEY
from harness.tuning.study import REASON, SharedStudy

STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "at work",
}
ON_TEST = "Chosen on the test images: on these, results with it are an oracle's and are marked so."


def write_method(plan: Plan, study: SharedStudy, best: FrozenTrial) -> Path:
    """Write the best trial's settings as a method's YAML, and return where; whoever reads it sees a whole one."""
    tuned = {name: plan.space.setting(name, value) for name, value in best.params.items()}
    values: dict[str, Any] = plan.changed | tuned
    if plan.on_test:
        before = values.get("tuned_on_test") or {}
        values["tuned_on_test"] = before | {name: {plan.config.category: value} for name, value in tuned.items()}
    value = f"{plan.objective} {best.value:.4f} in trial {best.number} ({counted(study.trials())})"
    lines = [
        f"Tuned by harness.tune, study {plan.name}: {value}, search space {plan.space.source}.",
        f"On dataset {plan.dataset}, category {plan.config.category}, seed {plan.config.seed}, "
        f"protocol {plan.config.protocol.name}. Use: {use(plan)}",
        *([ON_TEST] if plan.on_test else []),
    ]
    header = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    path = method_path(plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(f".{os.getpid()}.tmp")
    whole.write_text(f"{header}defaults: [{plan.method}, _self_]\n{OmegaConf.to_yaml(OmegaConf.create(values))}")
    whole.replace(path)
    return path


def method_path(plan: Plan) -> Path:
    """Return where the best configuration is written."""
    return plan.directory / "tuned" / "method" / f"{plan.name}.yaml"


def use(plan: Plan) -> str:
    """Return the command that runs the method with the best settings."""
    others = [o for o in plan.overrides if not o.lstrip("+~").startswith(("method", "protocol", "experiment="))]
    folder = plan.directory / "tuned"
    return shlex.join(["python", "-m", "harness", "--config-dir", str(folder), f"method={plan.name}", *others])


def counted(trials: Sequence[FrozenTrial]) -> str:
    """Return how many trials there are of each kind, such as `12 finished, 3 pruned`."""
    count = Counter(trial.state for trial in trials)
    return ", ".join(f"{count[state]} {text}" for state, text in STATES.items() if count[state])


def write_report(plan: Plan, study: SharedStudy, best: FrozenTrial, folder: Path, command: str) -> Path:
    """Write `report.md`, `trials.csv`, the plots and a copy of the method's YAML; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    trials = study.trials()
    _write_trials(plan, trials, folder / "trials.csv")
    matter = draw(study.optuna, trials, plan, folder)
    (folder / "best.yaml").write_text(method_path(plan).read_text())
    text = page(plan, trials, best, matter, command, use(plan), counted(trials))
    (folder / "report.md").write_text(text)
    return folder / "report.md"


def _write_trials(plan: Plan, trials: Sequence[FrozenTrial], path: Path) -> None:
    """Write one row a trial: what it tried, what came out, and its run."""
    names = list(plan.space.distributions)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", plan.objective, *names, "epochs", "run_id", "run_key", "reused", "reason"])
        for trial in trials:
            notes = trial.user_attrs
            row = [trial.number, STATES[trial.state], trial.value, *(trial.params.get(name) for name in names)]
            row += [len(trial.intermediate_values), *(notes.get(key) for key in (RUN_ID, RUN_KEY, REUSED, REASON))]
            writer.writerow(row)

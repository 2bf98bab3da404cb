"""The study's page, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from harness.tuning.plan import Plan
from harness.tuning.plots import Importances

_SHOWN = 10  # trials


def page(
    plan: Plan,
    trials: Sequence[FrozenTrial],
    best: FrozenTrial,
    matter: Importances,
    command: str,
    use: str,
    counted: str,
) -> str:
    """Return the page of a study.

    Args:
        plan: what is tuned.
        trials: all trials that count or failed.
        best: the best of them.
        matter: how much each setting matters.
        command: what the user typed.
        use: the command that uses the result.
        counted: how many trials there are of each kind.
    """
    parts = [
        f"# Study {plan.name}",
        _about(plan, counted),
        "## Best configuration",
        _best(plan, trials, best),
        f"These settings are the method `{plan.name}` (here `best.yaml`):\n\n    {use}",
        "## Trials",
        "![History](history.png)",
        _table(plan, trials),
        "All trials, with their runs, are in `trials.csv`.",
        *_failures(trials),
        "## Importances",
        _importances(matter),
        f"Made by `{command}`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(plan: Plan, counted: str) -> str:
    config, better = plan.config, "maximised" if plan.maximise else "minimised"
    images = {"val": "validation", "test": "test", "train": "training"}[plan.objective.partition("/")[0]]
    rows = {
        "Method": plan.method,
        "Data set, category": f"{plan.dataset}, {config.category}",
        "Protocol, seed": f"{config.protocol.name}, {config.seed}",
        "Objective": f"`{plan.objective}` of the last epoch, on {images} images, {better}",
        "Search space": f"{plan.space.source}: " + "; ".join(_searched(plan)),
        "Trials": counted,
        "Sampler, pruner": f"TPE, {'median' if plan.prune else 'none'}",
    }
    warned = ""
    if plan.on_test:
        warned = (
            "**Chosen on the test images**, as the objective asks. On these images results with the best configuration "
            "are an oracle's; its runs are tagged `harness.tuned_on_test`, and reports mark them.\n\n"
        )
    return warned + _markdown(["", ""], [[key, value] for key, value in rows.items()])


def _searched(plan: Plan) -> list[str]:
    found = []
    for name, distribution in plan.space.distributions.items():
        choices = getattr(distribution, "choices", None)
        log = ", logarithmic" if getattr(distribution, "log", False) else ""
        limits = [_number(getattr(distribution, end, "")) for end in ("low", "high")]
        found.append(f"{name} " + (f"in {list(choices)}" if choices else f"{' to '.join(limits)}{log}"))
    return found


def _best(plan: Plan, trials: Sequence[FrozenTrial], best: FrozenTrial) -> str:
    rows = [[name, _number(plan.config.method[name]), _number(value)] for name, value in best.params.items()]
    first = next((t for t in trials if t.state == TrialState.COMPLETE and t.params == plan.own), None)
    rows.append([plan.objective, _number(first.value) if first else "–", f"**{_number(best.value)}**"])
    return _markdown(["Setting", "Method's own", f"Best (trial {best.number})"], rows)


def _table(plan: Plan, trials: Sequence[FrozenTrial]) -> str:
    """Return the best trials, the best first."""
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = -1 if plan.maximise else 1
    finished.sort(key=lambda trial: (sign * (trial.value or 0.0), trial.number))
    names = list(plan.space.distributions)
    rows = [[str(t.number), _number(t.value), *(_number(t.params.get(n)) for n in names)] for t in finished[:_SHOWN]]
    return f"The best {len(rows)}:\n\n" + _markdown(["Trial", plan.objective, *names], rows)


def _failures(trials: Sequence[FrozenTrial]) -> list[str]:
    rows = [[str(t.number), str(t.user_attrs.get("reason", ""))] for t in trials if t.state == TrialState.FAIL]
    return [_markdown(["Failed trial", "Why"], rows)] if rows else []


def _importances(matter: Importances) -> str:
    if matter.unknown:
        return matter.unknown
    rows = [[name, f"{100 * share:.1f} %"] for name, share in matter.shares.items()]
    note = "PED-ANOVA over the finished trials; with few trials a rough guess."
    return "\n\n".join(["![Importances](importances.png)", _markdown(["Setting", "Importance"], rows), note])


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"([|<>])", r"\\\1", " ".join(str(text).split()))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)

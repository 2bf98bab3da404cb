"""Optuna's plots of a study, as PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.tuning.plan import Plan

_SIZE = (7.16, 3.6)  # inches: two columns of an IEEE page


class Importances(NamedTuple):
    """How much each setting matters.

    Attributes:
        shares: setting -> its share, the largest first; they add up to 1. Empty where they are not known.
        unknown: why they are not known.
    """

    shares: Mapping[str, float]
    unknown: str = ""


def draw(study: optuna.Study, trials: Sequence[FrozenTrial], plan: Plan, folder: Path) -> Importances:
    """Draw `history` and, where they can be told from the trials, `importances` into a folder; return the latter."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.ticker import MaxNLocator
    from optuna.visualization import matplotlib as plots

    def history() -> Any:
        axes = plots.plot_optimization_history(study, target_name=plan.objective)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return axes

    _save(history, folder / "history")
    if unknown := _why_unknown(trials, plan):
        return Importances({}, unknown)
    _save(lambda: plots.plot_param_importances(study, target_name=plan.objective), folder / "importances")
    return Importances(optuna.importance.get_param_importances(study))


def _why_unknown(trials: Sequence[FrozenTrial], plan: Plan) -> str:
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(finished) < 2:
        return "Importances need two finished trials."
    if len({trial.value for trial in finished}) == 1:
        return f"No setting can be told to matter: {plan.objective} is the same in all finished trials."
    return ""


def _save(plot: Callable[[], Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    with plt.rc_context({"pdf.fonttype": 42}):  # Optuna's functions set a style for good
        axes = plot()
        figure = axes.figure
        figure.set_size_inches(*_SIZE)
        figure.savefig(path.with_suffix(".png"), dpi=200, bbox_inches="tight")
        figure.savefig(path.with_suffix(".pdf"), bbox_inches="tight", metadata={"CreationDate": None})
        plt.close(figure)

"""`python -m harness.tune`: tune a method's settings on validation images."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch is imported: idle OpenMP threads must not spin on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")

from hydra.errors import HydraException

from harness import interruption
from harness.entry import call
from harness.errors import HarnessError, TrainingError
from harness.grid import Cell
from harness.runs.outcome import Outcome
from harness.tuning.options import USAGE, Options, parse
from harness.uri import shown_command

if TYPE_CHECKING:
    from harness.runs.tracking import TrackedRun
    from harness.tuning.plan import Plan
    from harness.tuning.runner import TrialRunner
    from harness.tuning.study import SharedStudy

_ALIKE = 3  # failures for one reason, without any success, after which the others would fail too


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 an error or no finished trial, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        options = parse(arguments)
        from harness.tuning.plan import make_plan

        _tune(make_plan(options), options, shown_command("harness.tune", arguments))
    except (HarnessError, HydraException) as error:
        print(f"harness.tune: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: what is finished stays, and the same command goes on.", file=sys.stderr)
        return interruption.exit_code()
    return 0


def _tune(plan: Plan, options: Options, command: str) -> None:
    """Run the trials that are missing, then write what the study found."""
    from harness.runs.execute import open_store, quieten
    from harness.tuning.runner import TrialRunner, open_study

    quieten()
    _announce(plan)
    study = open_study(plan.directory, plan.name, plan.maximise)
    study.begin(plan.settings, plan.own)
    store = open_store(**plan.config.tracking)
    run = store.study(plan.config.experiment, plan.name, _params(plan))
    status = "FAILED"
    try:
        deadline = None if options.tune.timeout is None else time.time() + options.tune.timeout
        reasons = _run(study, TrialRunner(plan, options.tune.trials, deadline, run.run_id), options.tune.jobs)
        _conclude(plan, study, run, Path(options.reports_dir) / "tune" / plan.name, command, reasons)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        run.end(status if study.idle() else "RUNNING")  # another command may go on with it


def _announce(plan: Plan) -> None:
    print(f"Study {plan.name}: {plan.objective}, search space {plan.space.source}", flush=True)
    if plan.protocol_chosen:
        print(f"protocol={plan.config.protocol.name}, for the objective needs validation images.", flush=True)
    if plan.on_test:
        print("Choosing on the test images, as the objective asks: runs and reports that use it say so.", flush=True)


def _params(plan: Plan) -> dict[str, str]:
    """Return what the study's MLflow run says of it."""
    study = {f"study.{name}": value for name, value in plan.settings.items()}
    searched = {f"search.{name}": str(d) for name, d in plan.space.distributions.items()}
    return study | searched | {"study.dataset": plan.dataset, "study.seed": str(plan.config.seed)}


def _run(study: SharedStudy, runner: TrialRunner, jobs: int) -> Counter[str]:
    """Run the missing trials; return why some failed, with how many did.

    A failed trial takes the place of one in this command, so that it comes to an end; the next command makes up for it.
    """
    from harness.tuning.study import DONE

    missing = runner.total - sum(trial.state in DONE for trial in study.trials())
    cells = [Cell((f"trial={i}",)) for i in range(missing)]
    reasons: Counter[str] = Counter()
    if not cells:
        print(f"The study has its {runner.total} trials.", flush=True)
    for outcome in _outcomes(runner, cells, jobs):
        if outcome.status != "failed":
            continue
        reasons[outcome.reason] += 1
        if reasons[outcome.reason] >= min(_ALIKE, runner.total) and study.best() is None:
            raise TrainingError(f"No trial can be finished. {outcome.reason}")
    return reasons


def _outcomes(runner: TrialRunner, cells: Sequence[Cell], jobs: int) -> Iterator[Outcome]:
    """Yield what becomes of trials, run in this process or in several."""
    if min(jobs, len(cells)) <= 1:
        yield from map(runner, cells)
        return
    from harness.tuning.runner import prepare
    from harness.workers import Workers

    with Workers(min(jobs, len(cells)), runner, prepare) as workers:
        for _, outcome in workers.run(cells):
            yield outcome


def _conclude(
    plan: Plan, study: SharedStudy, run: TrackedRun, folder: Path, command: str, reasons: Counter[str]
) -> None:
    """Write the best configuration and the report, tell MLflow, and say where they are."""
    from harness.tuning.results import counted, use, write_method, write_report
    from harness.tuning.runner import described

    for reason, times in reasons.items():
        print(f"{times} failed: {reason}", file=sys.stderr)
    best = study.best()
    if best is None:
        raise TrainingError(f"No trial has finished ({counted(study.trials()) or 'none was begun'}).")
    with study.writing():  # another command may come to its end too
        method = write_method(plan, study, best)
        report = write_report(plan, study, best, folder, command)
        _track(plan, study, run, folder)
    print(f"Trials: {counted(study.trials())}")
    print(f"Best:   {plan.objective} {best.value:.4f} in trial {best.number}: {described(best.params)}")
    print(f"Method: {method}\nReport: {report}\nUse it: {use(plan)}")


def _track(plan: Plan, study: SharedStudy, run: TrackedRun, folder: Path) -> None:
    """Give the study's MLflow run its result, and mark an older run that was chosen on test images."""
    from harness.runs.execute import open_store
    from harness.tuning.runner import REUSED, RUN_ID, test_tag
    from harness.tuning.study import DONE

    best = study.best()
    assert best is not None
    run.tag({f"best.{name}": str(value) for name, value in best.params.items()})
    done = sum(trial.state in DONE for trial in study.trials())
    run.log({f"best/{plan.objective}": float(best.value or 0.0)}, step=done)
    run.artifacts(folder)
    if plan.on_test and best.user_attrs[REUSED]:
        store = open_store(**plan.config.tracking)
        store.tag(best.user_attrs[RUN_ID], test_tag(plan, plan.trial_config(best.params)))


if __name__ == "__main__":
    sys.exit(call(main, "harness.tune"))

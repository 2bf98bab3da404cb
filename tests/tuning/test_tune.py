"""The command: survives Ctrl-C and SIGKILL, its result is a method, choosing on test images is told everywhere."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from commands import environment, start_command
from mlflow import MlflowClient
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from harness.identity import identify, tuned_on_test
from harness.runs.execute import execute
from harness.schema import compose
from harness.tune import main
from harness.tuning.options import parse
from harness.tuning.plan import Plan, make_plan
from harness.tuning.study import SharedStudy

Tune = Callable[..., int]


@pytest.fixture
def common(tmp_path: Path, toy_root: Path) -> list[str]:
    """What all commands of a test share: small images, and a store of its own."""
    return ["preprocess.size=32", "metrics.heatmaps=0", f"dataset.root={toy_root}",
            f"tracking.directory={tmp_path}/runs", f"reports_dir={tmp_path}/reports"]  # fmt: skip


@pytest.fixture
def tune(common: list[str]) -> Tune:
    """Run the command in this process, which has imported torch already."""
    return lambda *arguments: main([*arguments, *common])


def plan_of(arguments: Sequence[str]) -> Plan:
    return make_plan(parse(arguments))


def study_of(plan: Plan) -> SharedStudy:
    return SharedStudy(plan.directory, plan.name, plan.maximise)


def runs_of(plan: Plan) -> list[Any]:
    client = MlflowClient(plan.config.tracking.uri)
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def wait_until(database: Path, finished: int, lives: Callable[[], bool]) -> bool:
    """Wait until so many trials are finished, and one more is past its first epoch, as long as the study lives."""
    at_work = (
        "SELECT COUNT(*) FROM trial_intermediate_values JOIN trials USING (trial_id) WHERE trials.state = 'RUNNING'"
    )
    while lives():
        time.sleep(0.05)
        if database.exists():
            with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection:
                done = connection.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
                if done >= finished and connection.execute(at_work).fetchone()[0]:
                    return True
    return False


def interrupted(tune: Callable[[], int], database: Path) -> int:
    """Press Ctrl-C in the second trial of a study in this process."""
    over = threading.Event()

    def press() -> None:
        if wait_until(database, 1, lambda: not over.is_set()):
            os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press)
    finger.start()
    try:
        return tune()
    finally:
        over.set()
        finger.join()


def test_tuning_resumes_after_a_kill(
    tmp_path: Path, common: list[str], tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["method=radl", "method.epochs=8", "tune.trials=5", "tune.prune=false"]
    database = tmp_path / "runs" / "optuna.db"
    assert interrupted(lambda: tune(*study), database) == 130
    told = capsys.readouterr()
    assert "1/5  trial 0  val/image_auroc" in told.err
    assert "the same command goes on" in told.err
    process = start_command([*study, *common, "tune.jobs=2"], "harness.tune", cwd=tmp_path, merged=True)
    assert wait_until(database, 2, lambda: process.poll() is None), process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert tune(*study) == 0
    assert "Trials: 5 finished" in capsys.readouterr().out
    plan = plan_of([*study, *common])
    trials = study_of(plan).optuna.get_trials()
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(finished) == 5
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.FAIL}
    assert len({tuple(trial.params.values()) for trial in finished}) == 5
    runs = {run.info.run_id: run for run in runs_of(plan)}
    (parent,) = (run for run in runs.values() if "harness.trial" not in run.data.tags)
    assert (parent.info.run_name, parent.info.status) == (plan.name, "FINISHED")
    assert "harness.finished" not in parent.data.tags
    by_status = Counter(run.info.status for run in runs.values() if run is not parent)
    assert by_status["FINISHED"] == 5
    assert by_status["RUNNING"] == 0
    for trial in finished:
        run = runs[trial.user_attrs["run_id"]]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (run.data.tags["harness.study"], run.data.tags["harness.finished"]) == (plan.name, "true")
        assert run.data.metrics["val/image_auroc"] == trial.value
        assert list(trial.intermediate_values) == list(range(8))

    assert tune(*study) == 0
    assert "The study has its 5 trials." in capsys.readouterr().out
    assert len(study_of(plan).optuna.get_trials()) == len(trials)
    the_best_configuration_is_a_method(tmp_path, plan, common)
    folder = tmp_path / "reports" / "tune" / plan.name
    for name in ("history.png", "history.pdf", "importances.png", "importances.pdf", "trials.csv", "best.yaml"):
        assert (folder / name).stat().st_size > 0
    client = MlflowClient(plan.config.tracking.uri)
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"best.yaml", "history.png", "importances.png", "report.md", "trials.csv"} <= artifacts


def the_best_configuration_is_a_method(tmp_path: Path, plan: Plan, common: list[str]) -> None:
    tuned = f"hydra.searchpath=[{(tmp_path / 'runs' / 'tuned').as_uri()}]"
    own = [argument for argument in common if not argument.startswith("reports_dir")]
    config = compose([tuned, f"method={plan.name}", "protocol=validated_synthetic", *own])
    best = study_of(plan).best()
    assert best is not None
    assert {name: config.method[name] for name in best.params} == best.params
    assert (config.method.name, config.method.epochs) == ("radl", 8)
    done = execute(config)
    assert (done.status, done.run_id) == ("skipped", best.user_attrs["run_id"])
    assert done.metrics["val/image_auroc"] == best.value


def space(tmp_path: Path, text: str) -> str:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return f"tune.search={path}"


def test_choosing_on_test_images_must_be_named_and_is_told_everywhere(
    tmp_path: Path, common: list[str], tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["method=padim", "tune.objective=test/image_auroc", "tune.trials=3", "tune.name=peeked",
             space(tmp_path, "method.n_features: {choices: [10, 90]}")]  # fmt: skip
    own = [argument for argument in common if not argument.startswith("reports_dir")]
    before = execute(compose(["method=padim", "method.n_features=90", *own]))
    assert before.status == "finished"
    assert tune(*study) == 0
    assert "Choosing on the test images" in capsys.readouterr().out
    plan = plan_of([*study, *common])
    best = study_of(plan).best()
    assert best is not None
    reused = [trial for trial in study_of(plan).trials() if trial.user_attrs["reused"]]
    assert len(reused) >= 1  # what had finished before, and values that came twice
    assert "Chosen on the test images" in (tmp_path / "reports" / "tune" / "peeked" / "report.md").read_text()
    tuned = f"hydra.searchpath=[{(tmp_path / 'runs' / 'tuned').as_uri()}]"
    config = compose([tuned, "method=peeked", *own])
    assert config.method.tuned_on_test == {"n_features": {"bolted_plate": best.params["n_features"]}}
    assert tuned_on_test(config) == ["n_features"]
    key = identify(config).key
    runs = [run for run in runs_of(plan) if "harness.run_key" in run.data.tags]
    for run in runs:
        chosen = run.data.tags["harness.run_key"] == key or "harness.trial" in run.data.tags
        assert run.data.tags.get("harness.tuned_on_test") == ("n_features" if chosen else None)
    assert len(runs) == 2


def test_the_methods_own_values_are_chosen_by_nobody(tmp_path: Path, common: list[str], tune: Tune) -> None:
    study = ["method=padim", "method.n_features=30", "tune.objective=test/image_auroc", "tune.trials=1", "seed=9",
             space(tmp_path, "method.n_features: {low: 10, high: 90}")]  # fmt: skip
    assert tune(*study) == 0
    plan = plan_of([*study, *common])
    (run,) = (run for run in runs_of(plan) if "harness.trial" in run.data.tags and run.data.params["seed"] == "9")
    assert "harness.tuned_on_test" not in run.data.tags and "harness.asked" not in run.data.tags
    own = [argument for argument in common if not argument.startswith("reports_dir")]
    again = execute(compose(["method=padim", "method.n_features=30", "seed=9", *own]))
    assert (again.status, again.run_id) == ("skipped", run.info.run_id)
    assert next(r for r in runs_of(plan) if r.info.run_id == again.run_id).data.tags["harness.asked"] == "true"


def test_a_trial_worse_than_the_others_is_pruned_and_counts_nowhere(
    common: list[str], tune: Tune, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = ["method=radl", "method.epochs=3", "tune.trials=6",
             space(tmp_path, "method.tau: {low: 0.1, high: 1}")]  # fmt: skip
    plan = plan_of([*study, *common])
    shared = study_of(plan)
    shared.begin(plan.settings, {})
    for tau in (0.1, 0.2, 0.3, 0.4, 0.6):  # better than any AUROC
        shared.optuna.add_trial(
            create_trial(
                params={"tau": tau}, distributions={"tau": FloatDistribution(0.1, 1)}, value=2.0,
                intermediate_values={0: 2.0, 1: 2.0, 2: 2.0},
            )
        )  # fmt: skip
    assert tune(*study) == 0
    told = capsys.readouterr()
    assert "pruned after epoch 1" in told.err
    assert "Trials: 5 finished, 1 pruned" in told.out
    (run,) = (run for run in runs_of(plan) if "harness.trial" in run.data.tags)
    assert (run.info.status, run.data.tags["harness.pruned"]) == ("KILLED", "true")
    assert "harness.finished" not in run.data.tags
    page = (tmp_path / "reports" / "tune" / plan.name / "report.md").read_text()
    assert "val/image_auroc is the same in all finished trials" in page


def test_a_failing_trial_does_not_stop_the_study_but_failures_alike_do(
    common: list[str], tune: Tune, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    low = space(tmp_path, "method.sigma_low: {choices: [0.005, 0.5]}")  # sigma_high is 0.025
    study = ["method=radl", "method.epochs=1", "tune.name=half", low]
    assert tune(*study, "tune.trials=4") == 0
    told = capsys.readouterr()
    assert "failed: Noise needs 0 <= sigma_low <= sigma_high" in told.err
    states = Counter(trial.state for trial in study_of(plan_of([*study, *common])).trials())
    assert states[TrialState.COMPLETE] + states[TrialState.FAIL] == 4
    assert min(states.values()) >= 1
    assert tune(*study[:2], "tune.objective=val/nonsense") == 1
    told = capsys.readouterr()
    assert told.err.count("val/nonsense is not measured in this run; measured are") == 4  # three trials, and the end
    assert "val/image_auroc" in told.err


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["method=nope"], "method=nope"),
        (["category=bottle"], "bottle"),
        (["protocol=one_class"], "protocol=validated_synthetic"),
        (["seed=0,1"], "seed=0,1"),
        (["experiment=toy"], "experiment=toy"),
        (["launcher=local"], "tune.jobs"),
        (["method=anomalib"], "search/anomalib.yaml"),
        (["tune.trials=0"], "tune.trials=0"),
        (["tune.objective=auroc"], "tune.objective=auroc"),
        (["tune.taau=1"], "taau"),
        (["tune.name=padim"], "tune.name=padim"),
        (["tune.search=nope"], "tune.search=nope"),
        (["--trials", "4"], "--trials"),
        (["~method.smoothing"], "~method.smoothing"),
    ],
)
def test_a_mistake_is_one_sentence(
    tune: Tune, arguments: list[str], culprit: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert tune(*arguments) == 1
    told = capsys.readouterr()
    assert culprit in told.err
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "runs" / "mlflow.db").exists()


def test_help_needs_neither_torch_nor_optuna() -> None:
    code = (
        "import sys, harness.tune; harness.tune.main(['-h']); "
        "print([m for m in ('torch', 'mlflow', 'optuna', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("python -m harness.tune method=NAME")
    assert done.stdout.splitlines()[-1] == "[]", done.stderr

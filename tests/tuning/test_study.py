"""The shared study: exact counts whoever dies, the same trials after a kill as without one."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from harness.errors import ConfigError, TrackingError
from harness.tuning.study import SharedStudy

SPACE = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(["a", "b"])}
SEED = ("study", 0)
OWN = {"x": 0.5, "kind": "a"}


class Died(BaseException):
    """What ends the process of a trial, here without the process."""


def opened(folder: Path, name: str = "study", maximise: bool = True) -> SharedStudy:
    study = SharedStudy(folder, name, maximise)
    study.begin({"method": "radl"}, OWN)
    return study


def work(study: SharedStudy, total: int, dies_at: int | None = None) -> None:
    """Run trials until there are none left."""
    while True:
        with study.next_trial(SPACE, total, None, SEED) as trial:
            if trial is None:
                return
            if trial.number == dies_at:
                raise Died
            study.tell(trial, -((trial.params["x"] - 0.3) ** 2), TrialState.COMPLETE)


def values(study: SharedStudy) -> list[Any]:
    return [(trial.params, trial.value) for trial in study.trials()]


def test_it_begins_with_the_methods_own_values_and_learns(tmp_path: Path) -> None:
    study = opened(tmp_path)
    work(study, 25)
    assert study.trials()[0].params == OWN
    best = study.best()
    assert best is not None
    assert abs(best.params["x"] - 0.3) < 0.05
    assert len({trial.params["x"] for trial in study.trials()}) == 25


def test_after_a_death_it_goes_on_as_if_there_had_been_none(tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole")
    work(whole, 14)
    broken = opened(tmp_path / "broken")
    for dies_at in (0, 4, 13):
        with pytest.raises(Died):
            work(broken, 14, dies_at)
        broken = opened(tmp_path / "broken")
    work(broken, 14)
    assert values(broken) == values(whole)
    states = Counter(trial.state for trial in broken.optuna.get_trials())
    assert states == {TrialState.COMPLETE: 14, TrialState.FAIL: 3}


def test_a_trial_at_work_elsewhere_is_left_alone_and_waited_for(tmp_path: Path) -> None:
    ours, theirs = opened(tmp_path), opened(tmp_path)
    with theirs.next_trial(SPACE, 1, None, SEED) as trial, ThreadPoolExecutor(1) as pool:
        assert trial is not None
        waiting = pool.submit(work, ours, 1)
        time.sleep(1.5)
        assert not waiting.done()
        assert not ours.idle()
        theirs.tell(trial, 1.0, TrialState.COMPLETE)
        waiting.result(timeout=20)
    assert len(ours.optuna.get_trials()) == 1
    assert ours.idle()


def test_many_at_once_run_exactly_the_trials_that_were_asked_for(tmp_path: Path) -> None:
    opened(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(lambda: work(opened(tmp_path), 15)) for _ in range(4)]:
            done.result()
    trials = opened(tmp_path).optuna.get_trials()
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 15}
    assert not list((tmp_path / "locks").glob("study-study-*.lock"))


def test_other_settings_are_another_study(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(ConfigError, match="another method"):
        SharedStudy(tmp_path, "study", True).begin({"method": "padim"}, {})


def test_the_earliest_of_equals_is_best_and_losses_are_minimised(tmp_path: Path) -> None:
    for maximise, expected in ((True, 1), (False, 0)):
        study = opened(tmp_path, str(maximise), maximise)
        for value in (0.2, 0.7, 0.7, 0.2):
            with study.next_trial(SPACE, 4, None, SEED) as trial:
                assert trial is not None
                study.tell(trial, value, TrialState.COMPLETE)
        best = study.best()
        assert best is not None
        assert best.number == expected


def test_after_the_deadline_none_is_begun(tmp_path: Path) -> None:
    with opened(tmp_path).next_trial(SPACE, 5, time.time() - 1, SEED) as trial:
        assert trial is None


def test_a_broken_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_text("no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(TrackingError, match=r"optuna\.db"):
        opened(tmp_path)

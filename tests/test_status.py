"""The status of real sweeps: at work, killed, failed, finished; and that looking changes nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from commands import Run, start_command

from harness.data.download import FETCHERS
from harness.data.toy import VERSION
from harness.entry import call
from harness.estimate import Past
from harness.runs import overview
from harness.runs.overview import SeenRun, latest_by_key
from harness.schema import compose
from harness.status.__main__ import _store, main
from harness.status.grid import Grid
from harness.status.options import parse
from harness.status.state import LEFT, Row, Standing, whole_store

SMALL = ["preprocess.size=32", "metrics.heatmaps=0"]
LONG = ["method=radl", "seed=0,1", "method.epochs=4000", "trainer.max_epochs=4000"]

Look = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def look(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Look:
    """Look at the store in the test's folder, as a script does; returns the exit code and what is told."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = main([*arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def until(look: Look) -> Callable[..., dict[str, Any]]:
    """Look until something is so."""

    def wait(condition: Callable[[dict[str, Any]], bool], *arguments: str) -> dict[str, Any]:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            told = look(*arguments)[1]
            if condition(told):
                return told
            time.sleep(0.3)
        raise AssertionError(told)

    return wait


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_sweep_from_its_begin_to_its_death_and_after(
    run: Run, look: Look, until: Callable[..., dict[str, Any]], tmp_path: Path, toy_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = f"dataset.root={toy_root}"
    grid = [*LONG, *SMALL, data]
    assert look(*grid)[1]["counts"] == {"finished": 0, "left": 2}
    assert not (tmp_path / "runs").exists()

    sweep = start_command(["-m", *grid], cwd=tmp_path, merged=True)
    told = until(lambda told: bool(told["at_work"] and told["at_work"][0]["epochs_done"]), *grid)
    assert told["counts"] == {"finished": 0, "at_work": 1, "left": 1}
    (one,) = told["at_work"]
    assert (one["method"], one["category"], one["seed"], one["epochs"]) == ("radl", "bolted_plate", "0", 4000)
    assert one["loss"] > 0 and one["seconds_to_go"] > 0 and abs(one["started"] - time.time()) < 120
    assert told["without_estimate"] == 1  # of the other seed nothing is known

    watching = start_command(["watch=0.2"], "harness.status", cwd=tmp_path)
    time.sleep(2)
    watching.send_signal(signal.SIGINT)
    shown = watching.communicate(timeout=60)[0]
    assert shown.count("1 at work") > 1 and watching.returncode == 0
    assert not {"\r", "\x1b"} & set(shown)

    sweep.kill()
    sweep.communicate(timeout=60)
    code, told = look(*grid)
    assert (code, told["counts"]) == (2, {"finished": 0, "died": 1, "left": 1})
    assert "runs it again" in told["reasons"][0]["reason"]

    diverging = ["method.learning_rate=1e30", "method.loss=truncated_l1"]
    assert run("-m", "method=padim,radl", *diverging, *SMALL).returncode == 1  # padim has no learning rate
    assert run("method=padim", *SMALL).returncode == 0
    before = contents(tmp_path / "runs")
    code, told = look("-m", "method=padim,radl", *diverging, *SMALL, data)
    assert (code, told["counts"]) == (2, {"finished": 0, "left": 0, "failed": 1, "cannot_be_run": 1})
    assert "the training diverged" in told["reasons"][0]["reason"]
    assert told["reasons"][0]["runs"] == ["radl/toy/bolted_plate/0"]
    assert told["reasons"][1]["runs"] == ["method=padim"]

    code, told = look()
    assert (code, told["counts"]) == (2, {"finished": 1, "left": 0, "died": 1, "failed": 1})
    assert told["rows"] == [{"name": ["adhoc"], "finished": 1, "died": 1, "failed": 1}]

    told = look("method=padim", "seed=0,1", *SMALL, data)[1]
    assert told["counts"] == {"finished": 1, "left": 1}
    assert told["seconds_to_go"] > 0 and told["without_estimate"] == 0
    assert main(["method=padim", *SMALL, data, "--watch"]) == 0  # which ends, for nothing is left
    assert "1 run of the grid: 1 finished." in capsys.readouterr().out
    assert contents(tmp_path / "runs") == before

    uri = "sqlite:///runs/mlflow.db"
    assert sorted(overview._of_server(uri), key=by_id) == sorted(overview._of_database(uri), key=by_id)
    with closing(sqlite3.connect("runs/mlflow.db")) as store:  # as if another host had begun it
        store.execute("UPDATE tags SET value = 'of another host' WHERE key = 'harness.locks'")
        store.commit()
    assert look()[1]["counts"]["at_work"] == 1  # heard of in these minutes
    with closing(sqlite3.connect("runs/mlflow.db")) as store:
        store.execute("UPDATE tags SET value = value - 3600 WHERE key = 'harness.heartbeat'")
        store.commit()
    code, told = look()
    assert code == 2 and told["counts"]["silent"] == 1


def by_id(run: SeenRun) -> str:
    return run.run_id


def seen(number: int, state: overview.State, key: str = "k", **more: Any) -> SeenRun:
    tags = {"run_key": key, "method": "m", "dataset": "d", "category": "c", "seed": str(number)}
    ended = None if state == "at work" else 100.0 * number + 60
    return SeenRun(str(number), "e", "", 100.0 * number, ended, tags | more.pop("tags", {}), state=state, **more)


def test_of_a_key_what_is_finished_counts_then_what_is_at_work_then_the_last() -> None:
    runs = [seen(1, "finished"), seen(2, "failed"), seen(3, "at work")]
    assert latest_by_key(runs)["k"].state == "finished"
    assert latest_by_key(runs[1:])["k"].state == "at work"
    assert latest_by_key([seen(1, "died"), seen(2, "failed")])["k"].state == "failed"


def test_time_to_go_is_shared_by_those_at_work_and_no_less_than_the_longest() -> None:
    now = time.time()
    params = {"method.epochs": "10"}
    runs = [
        SeenRun(str(i), "e", "RUNNING", now - 100, None, {"run_key": str(i)}, params,
                {"train/loss": (0.5, epoch)}, "at work")
        for i, epoch in enumerate([0, 4])
    ]  # fmt: skip
    standing = whole_store(runs)  # 900 s and 100 s to go
    assert [one.to_go for one in standing.at_work] == [pytest.approx(900, abs=2), pytest.approx(100, abs=2)]
    assert standing.to_go == pytest.approx(900, abs=3)
    assert standing.unknown == 0


def test_what_a_run_costs_is_the_median_of_its_kind_by_epochs_and_images() -> None:
    config = compose(["method=padim", "preprocess.size=32", "trainer.max_epochs=1"])
    tags = {"method": "padim", "images": "10", "data_fingerprint": "f"}
    params = {"preprocess.size": "32", "method.epochs": "1", "timing": "False"}
    runs = [seen(i, "finished", str(i), tags=tags, params=params) for i in range(3)]

    class Named:
        fingerprint = "other"

        class category:  # noqa: N801
            samples = range(20)

    cost = Past(runs).estimate(config, Named)  # type: ignore[arg-type]
    assert cost is not None
    assert cost.seconds == pytest.approx(120)  # twice the images
    assert cost.ground == "3 runs on other images"


def standing(**counts: int) -> Standing:
    made = Standing(total=sum(counts.values()))
    for state, number in counts.items():
        made.rows[(state,)] = Row((state,), Counter({state.replace("_", " "): number}))
    return made


@pytest.mark.parametrize(
    ("looks", "code"),
    [
        ([{"finished": 2}], 0),
        ([{"died": 2}, {"died": 1, "at_work": 1}, {"died": 1, "finished": 1}, {"finished": 2}], 0),  # begun again
        ([{"failed": 1}, {"at_work": 1}, *[{"failed": 1}] * 4], 2),
        ([{"died": 1, "finished": 1}] * 4, 2),  # and nobody runs it again
        ([{"silent": 1, "finished": 1}, {"finished": 2}], 0),
        ([{"finished": 1, "left": 1}, {"finished": 2}], 0),
    ],
)
def test_a_watch_ends_when_nothing_is_to_come(
    looks: list[dict[str, int]], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [standing(**look) for look in looks]
    monkeypatch.setattr("harness.status.__main__._looker", lambda _: lambda: left.pop(0))
    monkeypatch.setattr("harness.status.__main__.SETTLE_SECONDS", 0.25)  # between two and three looks
    assert main(["method=padim", "watch=0.1"]) == code
    assert not left


def test_a_store_is_named_as_for_a_run() -> None:
    for given, uri in [
        ("tracking.directory=mine", "sqlite:///mine/mlflow.db"),
        ('tracking.directory="my runs"', "sqlite:///my runs/mlflow.db"),
        ("tracking.uri='sqlite:////my place/mlflow.db'", "sqlite:////my place/mlflow.db"),
        ("tracking.directory=my\\ runs", "sqlite:///my runs/mlflow.db"),
        ("tracking.directory=my runs", "sqlite:///my runs/mlflow.db"),
    ]:
        assert _store(parse([given])) == uri


def test_a_configuration_of_ones_own_may_lie_in_a_folder_with_a_space(tmp_path: Path, look: Look) -> None:
    (tmp_path / "my conf" / "method").mkdir(parents=True)
    (tmp_path / "my conf" / "method" / "mine.yaml").write_text("defaults: [padim, _self_]\nname: mine\n")
    told = look("--config-dir", "my conf", "method=mine", *SMALL)[1]
    assert told["rows"][0]["name"] == ["mine", "toy 32 px"]


def test_looking_leaves_an_empty_folder_empty(run: Run, tmp_path: Path) -> None:
    done = run("method=padim", "seed=0,1", "category=all", "--json", *SMALL, module="harness.status")
    assert json.loads(done.stdout)["counts"] == {"finished": 0, "left": 6}, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_grid_on_images_that_are_awaited_is_left_and_nothing_is_downloaded(
    look: Look, tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object) -> None:
        raise AssertionError("looking has downloaded")

    monkeypatch.setitem(FETCHERS, "mvtec_ad", fetch)
    grid = ["dataset=mvtec_ad", "dataset.download=true", "category=bottle,cable", "method=padim", "backbone=toy"]
    code, told = look(*grid, *SMALL)
    assert (code, told["counts"]) == (0, {"finished": 0, "left": 2})
    assert "will be downloaded into datasets/mvtec_ad" in told["reasons"][0]["reason"]
    assert not list(tmp_path.iterdir())

    seen = Grid([*grid, *SMALL], [])
    assert seen.standing([]).reasons[LEFT]
    for name in ("bottle", "cable"):
        copytree(toy_root / VERSION / "granite_tile", tmp_path / "datasets" / "mvtec_ad" / name)
    assert seen.standing([]).counts == {LEFT: 2}
    assert not seen.standing([]).reasons


@pytest.mark.parametrize("argument", ["--strange", "nonsense", "watch=soon", "watch=0"])
def test_a_mistake_is_told(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(main, "harness.status", [argument]) == 1
    assert argument in capsys.readouterr().err


def test_where_nothing_has_run_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(main, "harness.status", []) == 1
    assert "There is no store at sqlite:///runs/mlflow.db" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_store_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").write_text("text")
    assert call(main, "harness.status", [f"tracking.directory={tmp_path}"]) == 1
    assert "cannot be read (" in capsys.readouterr().err

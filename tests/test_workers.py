"""Workers are real processes here: what one does, suffers or leaves behind is no other's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import worker_tasks
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.grid import Cell
from harness.runs.outcome import Outcome
from harness.workers import Queue, Workers, count


def run(*cells: Cell, jobs: int = 2, prepare: Callable[[], None] = worker_tasks.nothing) -> dict[Cell, Outcome]:
    """Return what became of the cells, in the order in which they ended."""
    with Workers(jobs, worker_tasks.do, prepare) as workers:
        results = list(workers.run(cells))
    assert not multiprocessing.active_children()
    assert len(results) == len(cells)
    return dict(results)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_live_as_long_as_the_sweep() -> None:
    cells = [Cell((f"seed={seed}", "sleep=0.1")) for seed in range(6)]
    with Workers(2, worker_tasks.do, worker_tasks.nothing) as workers:
        first, second = dict(workers.run(cells)), dict(workers.run(cells[:2]))
    assert set(first) == set(cells)
    processes = {outcome.run_id for outcome in first.values()}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    assert {outcome.run_id for outcome in second.values()} <= processes


def test_a_long_run_does_not_hold_short_ones() -> None:
    long = Cell(("sleep=2",))
    ended = list(run(long, *(Cell((f"seed={seed}",)) for seed in range(6))))
    assert ended[-1] == long


def test_a_worker_has_one_thread_unless_the_user_wants_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    cell = Cell(())
    assert run(cell)[cell].reason == "OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HARNESS_JOBS=2"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS=3" in run(cell)[cell].reason


def test_a_dead_worker_takes_no_other_run_with_it(tmp_path: Path) -> None:
    beside = Cell((f"append={tmp_path}/beside", "sleep=2"))
    dead = Cell((f"append={tmp_path}/dead", f"die_once={tmp_path}/died"))
    outcomes = run(beside, dead, *(Cell((f"seed={seed}",)) for seed in range(3)))
    assert {outcome.status for outcome in outcomes.values()} == {"finished"}
    assert len((tmp_path / "beside").read_text().split()) == 1
    assert len((tmp_path / "dead").read_text().split()) == 2


def test_a_run_that_kills_its_worker_again_fails_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    killer, crash = Cell(("seed=1", "die=SIGKILL")), Cell(("seed=2", "die=SIGSEGV"))
    sound = [Cell((f"seed={seed}",)) for seed in range(3, 6)]
    outcomes = run(killer, crash, *sound)
    assert all(outcomes[cell].status == "finished" for cell in sound)
    assert outcomes[killer].status == outcomes[crash].status == "failed"
    assert "memory" in outcomes[killer].reason
    assert "launcher.jobs" in outcomes[killer].reason
    assert "SIGSEGV" in outcomes[crash].reason
    assert "2 runs lost the worker process" in capsys.readouterr().err


def test_what_lost_its_worker_runs_again_with_nothing_beside_it(tmp_path: Path) -> None:
    lost = [Cell((f"die_once={tmp_path}/{name}", "sleep=0.5", f"append={tmp_path}/log")) for name in "abc"]
    assert {outcome.status for outcome in run(*lost, jobs=3).values()} == {"finished"}
    assert len(set((tmp_path / "log").read_text().split())) == 1


def test_workers_that_cannot_start_fail_their_cells_at_once() -> None:
    outcomes = run(*(Cell((f"seed={seed}",)) for seed in range(5)), prepare=worker_tasks.break_down)
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    assert all("launcher=serial" in outcome.reason for outcome in outcomes.values())


def test_an_interrupt_reaches_every_run_and_leaves_no_process(tmp_path: Path) -> None:
    marks = [tmp_path / "a", tmp_path / "b"]
    log = tmp_path / "log"
    cells = [Cell((f"append={log}", f"interruptible={mark}")) for mark in marks]
    sweep = multiprocessing.get_context("spawn").Process(target=worker_tasks.sweep, args=(cells,))
    sweep.start()
    wait_for(lambda: all(mark.exists() for mark in marks))
    assert sweep.pid is not None
    os.kill(sweep.pid, signal.SIGINT)
    sweep.join(30)
    assert sweep.exitcode == 1
    assert all(mark.with_suffix(".interrupted").exists() for mark in marks)
    assert not any(is_alive(int(pid)) for pid in log.read_text().split())


def test_workers_do_not_outlive_a_sweep_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cells = [Cell((f"append={log}", f"interruptible={tmp_path}/{name}")) for name in "ab"]
    sweep = multiprocessing.get_context("spawn").Process(target=worker_tasks.sweep, args=(cells,))
    sweep.start()
    wait_for(lambda: log.exists() and len(log.read_text().split()) == 2)
    pids = [int(pid) for pid in log.read_text().split()]
    assert all(is_alive(pid) for pid in pids)
    sweep.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), unique=True), st.integers(1, 4), st.randoms())
def test_workers_keep_to_their_images(shape: list[tuple[int, int]], workers: int, random: object) -> None:
    """Every cell once; nobody leaves images of which cells are left, or begins those of another while some are free."""
    cells = [Cell((*([f"category=c{category}"] if category else []), f"seed={seed}")) for category, seed in shape]
    queue, last = Queue(cells), [None] * workers
    taken: list[Cell] = []
    while queue:
        worker = random.randrange(workers)  # type: ignore[attr-defined]
        others = [cell for i, cell in enumerate(last) if cell is not None and i != worker]
        left = {cell.images for cell in cells if cell not in taken}
        cell = queue.take(last[worker], others)
        before = last[worker]
        if before is not None and before.images in left:  # type: ignore[attr-defined]
            assert cell.images == before.images  # type: ignore[attr-defined]
        elif left - {other.images for other in others}:
            assert cell.images not in {other.images for other in others}
        taken.append(cell)
        last[worker] = cell  # type: ignore[call-overload]
    assert Counter(taken) == Counter(cells)


def test_runs_of_one_category_stay_in_the_order_of_the_grid() -> None:
    cells = [Cell((f"seed={seed}",)) for seed in range(4)]
    queue = Queue(cells)
    assert [queue.take(None, []) for _ in cells] == cells


def test_as_many_workers_as_cores_and_never_more_than_cells() -> None:
    cores = len(os.sched_getaffinity(0))
    assert 1 <= count(None, 1000, "cpu", 1) <= cores
    assert count(-1, 1000, "cpu", 1) == count(None, 1000, "cpu", 1)
    assert count(None, 1000, "cpu", 10_000) == 1
    assert count(4, 1000, "cpu", 2) == 4
    assert count(4, 3, "cpu", 1) == 3
    assert count(4, 0, "cpu", 1) == 1
    with pytest.raises(ConfigError, match=r"launcher\.jobs=0"):
        count(0, 10, "cpu", 1)

"""A team's tracking server on PostgreSQL: eight workers of four hosts, five hundred runs, each there once and whole.

Training is left out (see `benchmarks/tracking_load.py`); what asks, claims, writes and finishes is the harness's own.
Every run is asked for by two workers of different hosts, which share no lock. What is in the store is read by SQL.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.servers import Postgres
from benchmarks.tracking_load import EPOCH_METRICS, EPOCHS, LAST_METRICS, Worker, value

pytestmark = pytest.mark.scale

HOSTS, WORKERS, RUNS = 4, 8, 500
TOGETHER = 25  # runs of a pair of workers that both ask for at the same moment


def pair_of(worker: int) -> int:
    """Two workers do the same runs; they are on different hosts, of which each has two workers."""
    return worker % HOSTS


@pytest.fixture(scope="module")
def outcomes(
    server: str, hosts: None, toy_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[int, list[str]]]:
    """What each worker said of each run, attempt by attempt."""
    folder = tmp_path_factory.mktemp("hosts")
    started = []
    for worker in range(WORKERS):
        host = f"host{(worker + worker // HOSTS) % HOSTS}"
        (folder / host).mkdir(exist_ok=True)
        started.append(Worker(toy_root, {"TMPDIR": str(folder / host)}, host))
    try:
        for worker, process in enumerate(started):
            seeds = list(range(pair_of(worker), RUNS, HOSTS))
            process.order(
                uri=server, directory=str(folder / "runs"), seeds=seeds,
                together=seeds[:TOGETHER], meeting=str(folder), me=str(worker),
            )  # fmt: skip
        return [process.answer().outcomes for process in started]
    finally:
        for process in started:
            process.stop()


def test_every_run_is_done_by_one_worker(outcomes: list[dict[int, list[str]]]) -> None:
    said = Counter(status for found in outcomes for tries in found.values() for status in tries)
    assert said.keys() <= {"finished", "skipped", "busy"}, said
    done = Counter(seed for found in outcomes for seed, tries in found.items() for _ in range(tries.count("finished")))
    assert done == dict.fromkeys(range(RUNS), 1)
    assert said["busy"] > TOGETHER  # they did meet


def test_the_database_holds_every_run_once(outcomes: list[dict[int, list[str]]], cluster: Postgres) -> None:
    rows = query(
        cluster,
        """SELECT key.value, seed.value FROM runs
           JOIN tags AS key ON key.run_uuid = runs.run_uuid AND key.key = 'harness.run_key'
           JOIN tags AS seed ON seed.run_uuid = runs.run_uuid AND seed.key = 'harness.seed'
           JOIN tags AS mark ON mark.run_uuid = runs.run_uuid AND mark.key = 'harness.finished'
           WHERE runs.status = 'FINISHED' AND mark.value = 'true' AND seed.value::int < %s""",
        RUNS,
    )
    assert sorted(int(seed) for _, seed in rows) == list(range(RUNS))
    assert len({key for key, _ in rows}) == RUNS
    states = dict(query(cluster, "SELECT status, count(*) FROM runs GROUP BY status"))
    assert states.keys() <= {"FINISHED", "KILLED"}, states  # those that gave way; nothing is left open


def test_every_history_is_whole_and_nothing_is_there_twice(
    outcomes: list[dict[int, list[str]]], cluster: Postgres
) -> None:
    """Compared with what the workers were to log, value by value: 154,000 of them."""
    rows = query(
        cluster,
        """SELECT seed.value::int, metrics.key, metrics.step, metrics.value FROM metrics
           JOIN runs ON runs.run_uuid = metrics.run_uuid AND runs.status = 'FINISHED'
           JOIN tags AS seed ON seed.run_uuid = runs.run_uuid AND seed.key = 'harness.seed'
           WHERE seed.value::int < %s""",
        RUNS,
    )
    wanted = {
        (seed, name, step): value(seed, name, step)
        for seed in range(RUNS)
        for names, steps in ((EPOCH_METRICS, range(EPOCHS)), (LAST_METRICS, [EPOCHS - 1]))
        for name in names
        for step in steps
    }
    assert len(rows) == len(wanted)
    assert {row[:3]: row[3] for row in rows} == wanted


def test_every_run_has_its_params_and_artifacts(
    outcomes: list[dict[int, list[str]]], cluster: Postgres, server: str
) -> None:
    counts = query(
        cluster,
        """SELECT runs.run_uuid, seed.value::int, count(*) FROM params
           JOIN runs ON runs.run_uuid = params.run_uuid AND runs.status = 'FINISHED'
           JOIN tags AS seed ON seed.run_uuid = runs.run_uuid AND seed.key = 'harness.seed'
           WHERE seed.value::int < %s GROUP BY runs.run_uuid, seed.value""",
        RUNS,
    )
    assert len(counts) == RUNS and len({count for _, _, count in counts}) == 1
    assert counts[0][2] > 50
    from mlflow import MlflowClient

    client = MlflowClient(server)
    for run_id, seed, _ in counts[::50]:
        assert {found.path for found in client.list_artifacts(run_id)} == {
            "config.yaml", "environment.txt", "scores.parquet", "split.csv",
        }  # fmt: skip
        assert_scores_of(client.download_artifacts(run_id, "scores.parquet"), seed)


def assert_scores_of(path: str, seed: int) -> None:
    import pandas as pd

    assert (pd.read_parquet(path)["score"] == seed).all()


def query(cluster: Postgres, sql: str, *parameters: object) -> list[tuple]:
    import psycopg

    with psycopg.connect(cluster.dsn) as connection:
        return connection.execute(sql, parameters).fetchall()

"""Where runs are written: a team's tracking server on PostgreSQL, against SQLite's file and a server on SQLite."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.comparison import Comparison
from benchmarks.servers import find_postgres, postgres, tracking_server
from benchmarks.tracking_load import Worker, workers

WORKERS, RUNS, ROUNDS = 8, 96, 2  # runs in a store, in all rounds
QUICK_WORKERS, QUICK_RUNS = 2, 4


class _Place(NamedTuple):
    """A store that runs are written to.

    Args:
        name: what the report calls it.
        uri: that runs are told.
        database: that it keeps them in.
    """

    name: str
    uri: str
    database: str


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield the server on PostgreSQL against the others; all do the same runs, in turns."""
    from harness.data.toy import generate

    count, runs = (QUICK_WORKERS, QUICK_RUNS) if quick else (WORKERS, RUNS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder) / "toy"
        generate(root)
        places = _open(Path(folder), stack)
        started = stack.enter_context(workers(count, root))
        for place in places:
            _timed(started, place, Path(folder), range(runs, runs + count))  # opens stores, makes the experiment
        seconds = dict.fromkeys(places, 0.0)
        for turn in range(ROUNDS):
            for place in places if turn % 2 == 0 else places[::-1]:
                seconds[place] += _timed(started, place, Path(folder), range(turn, runs, ROUNDS))
        yield from _lines(seconds, count, runs)


def _open(folder: Path, stack: ExitStack) -> list[_Place]:
    """Start the servers; the one on PostgreSQL first, where there is one."""
    places = []
    if find_postgres() is not None:
        cluster = stack.enter_context(postgres())
        for name, value in cluster.environment.items():  # for this process too, which reads the database in the end
            stack.callback(os.environ.pop, name, None)
            os.environ[name] = value
        places.append(_serve("PostgreSQL", cluster.uri, folder / "postgresql", stack))
    (folder / "file").mkdir()
    own = f"sqlite:///{folder}/file/mlflow.db"
    return [
        *places,
        _serve("SQLite", f"sqlite:///{folder}/sqlite/mlflow.db", folder / "sqlite", stack),
        _Place("one SQLite file", own, own),
    ]


def _serve(name: str, database: str, folder: Path, stack: ExitStack) -> _Place:
    folder.mkdir()
    return _Place(f"a server on {name}", stack.enter_context(tracking_server(folder, database)), database)


def _timed(started: Sequence[Worker], place: _Place, folder: Path, seeds: range) -> float:
    """Return the seconds from the first worker's begin to the last one's end."""
    for number, worker in enumerate(started):
        worker.order(uri=place.uri, directory=str(folder / "file"), seeds=list(seeds[number :: len(started)]))
    done = [worker.answer() for worker in started]
    said = {status for found in done for tries in found.outcomes.values() for status in tries}
    assert said == {"finished"}, said
    return max(found.ended for found in done) - min(found.began for found in done)


def _lines(seconds: dict[_Place, float], count: int, runs: int) -> Iterator[Comparison]:
    ours, *others = seconds
    for other in others:
        held = [_held(place) for place in (ours, other)]
        agreement = "{} runs and {} values in each".format(*held[0]) if held[0] == held[1] else f"DIFFERENT: {held}"
        yield Comparison(
            f"{runs} runs of {count} processes, to {ours.name}",
            other.name,
            seconds[ours],
            seconds[other],
            agreement,
            note=f"{runs / seconds[ours]:.1f} against {runs / seconds[other]:.1f} runs/s; training is left out, "
            "all that a run writes is written, in as many requests",
        )


def _held(place: _Place) -> tuple[int, int]:
    """Return how many finished runs a database has, and how many values of metrics."""
    from sqlalchemy import create_engine, text

    finished = "SELECT run_uuid FROM runs WHERE status = 'FINISHED'"
    with create_engine(place.database).connect() as connection:
        found = [
            connection.execute(text(f"SELECT count(*) FROM {table} WHERE run_uuid IN ({finished})")).scalar_one()
            for table in ("runs", "metrics")
        ]
    return found[0], found[1]

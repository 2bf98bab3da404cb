"""Whole runs through a tracking server on PostgreSQL, and what the report makes of them there and in SQLite."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from commands import command, environment
from mlflow import MlflowClient
from sqlalchemy import MetaData, create_engine, func, insert, select

from benchmarks.servers import Postgres, postgres, tracking_server

pytestmark = pytest.mark.scale

SEEDS = 8
GRID = [
    *("-m", "launcher=local", "launcher.jobs=2", "method=padim", f"seed=range({SEEDS})"),
    *("preprocess.size=32", "metrics.heatmaps=2", "method.n_features=20"),
]
COPIED = ("experiments", "runs", "tags", "params", "metrics", "latest_metrics")  # in the order of their references


class Team:
    """A server on PostgreSQL with the runs of a grid, and where its artifacts lie."""

    def __init__(self, uri: str, folder: Path, cluster: Postgres, said: str) -> None:
        self.uri, self.folder, self.cluster, self.said = uri, folder, cluster, said


def run(
    folder: Path, *arguments: str, module: str = "harness", more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    own = environment() | dict(more or {})
    return subprocess.run(command(arguments, module), cwd=folder, env=own, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def team(toy_root: Path, postgresql: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    with postgres() as own, tracking_server(folder, own.uri, own.environment) as uri:
        done = run(folder, *GRID, f"tracking.uri={uri}", f"dataset.root={toy_root}")
        assert done.returncode == 0, done.stdout + done.stderr
        yield Team(uri, folder, own, done.stdout)


def test_every_run_of_a_sweep_is_there_once_and_whole(team: Team) -> None:
    client = MlflowClient(team.uri)
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert {entry.info.status for entry in found} == {"FINISHED"}
    assert sorted(int(entry.data.tags["harness.seed"]) for entry in found) == list(range(SEEDS))
    assert len({entry.data.tags["harness.run_key"] for entry in found}) == SEEDS
    for entry in found:
        assert {"config.yaml", "scores.parquet", "environment.txt", "heatmaps", "split.csv"} <= {
            artifact.path for artifact in client.list_artifacts(entry.info.run_id)
        }


def test_the_same_command_again_runs_nothing(team: Team, toy_root: Path) -> None:
    again = run(team.folder, *GRID, f"tracking.uri={team.uri}", f"dataset.root={toy_root}")
    assert again.returncode == 0 and f"{SEEDS} skipped" in again.stdout + again.stderr, again.stdout + again.stderr


def test_a_report_of_the_server_is_that_of_the_same_runs_in_sqlite(team: Team, tmp_path: Path) -> None:
    """Pages, tables, pictures: byte by byte, but for the name of the store."""
    copy_to_sqlite(team, tmp_path)
    stores = (team.uri, f"sqlite:///{tmp_path}/runs/mlflow.db")
    server, sqlite = (nameless(report(tmp_path, uri), stores) for uri in stores)
    assert server.keys() == sqlite.keys() and {"report.md", "index.html", "provenance.json"} <= server.keys()
    assert [name for name in server if server[name] != sqlite[name]] == []


def test_a_report_of_the_servers_database_has_the_same_tables(team: Team, tmp_path: Path) -> None:
    """Read by SQL, which saves minutes for ten thousand runs, but without what is in the runs' files."""
    server = report(tmp_path, team.uri)
    database = report(tmp_path, team.cluster.uri, team.cluster.environment)
    from_files = re.compile(r"tables/(kinds_.*|defects|images)\.\w+")
    tables = [name for name in server if name.startswith("tables/") and not from_files.fullmatch(name)]
    assert len(tables) > 10 and [name for name in tables if server[name] != database.get(name)] == []


def report(folder: Path, uri: str, more: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Return all files of a report of a store."""
    asked = [f"tracking.uri={uri}", "reports_dir=reports", "name=all"]
    done = run(folder, *asked, module="harness.report", more=more)
    assert done.returncode == 0, done.stdout + done.stderr
    place = folder / "reports" / "all"
    found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    shutil.rmtree(folder / "reports")
    return found


def nameless(files: Mapping[str, bytes], stores: Sequence[str]) -> dict[str, bytes]:
    """Take the names of stores out of pages: of the one that is read, and of the one that runs were written to."""
    found = dict(files)
    for name in ("report.md", "index.html", "provenance.json"):
        found[name] = found[name].replace(b"<wbr>", b"")
        for store in stores:
            found[name] = found[name].replace(store.encode(), b"STORE")
    return found


def copy_to_sqlite(team: Team, folder: Path) -> None:
    """Copy the server's tables into a new SQLite store, and its artifacts beside it."""
    (folder / "runs").mkdir()
    uri = f"sqlite:///{folder}/runs/mlflow.db"
    MlflowClient(uri).search_experiments()
    source, target = create_engine(team.cluster.uri + f"?password={team.cluster.password}"), create_engine(uri)
    known = MetaData()
    known.reflect(target, only=COPIED)
    shutil.copytree(team.folder / "artifacts", folder / "runs" / "artifacts")
    with source.connect() as theirs, target.begin() as ours:
        for name in COPIED:
            table = known.tables[name]
            ours.execute(table.delete())
            rows = [dict(row) for row in theirs.execute(select(table)).mappings()]
            for row in rows:
                for key in ("artifact_uri", "artifact_location"):
                    if row.get(key, "").startswith("mlflow-artifacts:/"):
                        place = folder / "runs" / "artifacts" / row[key].removeprefix("mlflow-artifacts:/")
                        row[key] = place.as_uri()
            ours.execute(insert(table), rows)
        assert ours.execute(select(func.count()).select_from(known.tables["runs"])).scalar_one() == SEEDS

"""docs/mlflow.md: the filters that it shows find what it says, in a store of real runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run_command
from mlflow import MlflowClient
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "mlflow.md").read_text(encoding="utf-8")
FILTERS = re.findall(r"^\| `([^`]+)` \| [^|]+ \|$", PAGE.partition("## Find runs")[2].partition("## Compare")[0], re.M)

METHODS = ("radl", "patchcore", "padim")
EVERYTHING = {f"{method}/bolted_plate/{seed}" for method in METHODS for seed in (0, 1)}
# What each filter finds among these runs, and one that failed; in the order of the page.
FOUND: tuple[Callable[[str], bool], ...] = (
    lambda name: name.startswith("radl"),
    lambda name: name == "patchcore/bolted_plate/0",
    lambda name: True,
    lambda name: not name.startswith("padim"),
    lambda name: True,
    lambda name: True,
    lambda name: True,
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, toy_root: Path) -> MlflowClient:
    folder = tmp_path_factory.mktemp("page")
    small = ["preprocess.size=64", "metrics.heatmaps=0", "trainer.max_epochs=1", f"dataset.root={toy_root}"]
    done = run_command(["-m", f"method={','.join(METHODS)}", "seed=0,1", *small], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    failed = run_command(["method=padim", "method.n_features=100000", *small], cwd=folder)
    assert failed.returncode == 1
    return MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")


def names(client: MlflowClient, given: str) -> list[str]:
    experiment = client.get_experiment_by_name("adhoc").experiment_id
    return [run.info.run_name for run in client.search_runs([experiment], given)]


def test_filters_by_identity_find_these_runs(client: MlflowClient) -> None:
    for given, found in zip(FILTERS, FOUND, strict=False):
        finished = names(client, f"{given} AND attributes.status = 'FINISHED'")
        assert sorted(finished) == sorted(filter(found, EVERYTHING)), given


def test_filters_by_outcome_find_these_runs(client: MlflowClient) -> None:
    above, counted, failed = FILTERS[len(FOUND) :]
    values = {name: run.data.metrics["test/image_auroc"] for name, run in _finished(client).items()}
    assert sorted(names(client, above)) == sorted(name for name, value in values.items() if value > 0.5)
    assert sorted(names(client, counted)) == sorted(EVERYTHING)
    assert names(client, failed) == ["padim/bolted_plate/0"]
    (run,) = client.search_runs([client.get_experiment_by_name("adhoc").experiment_id], failed)
    assert "method=padim" in run.data.tags["harness.failure"]


def _finished(client: MlflowClient) -> dict[str, object]:
    experiment = client.get_experiment_by_name("adhoc").experiment_id
    return {run.info.run_name: run for run in client.search_runs([experiment], "attributes.status = 'FINISHED'")}


def test_metrics_and_artifacts_are_called_as_the_page_says(client: MlflowClient) -> None:
    run = _finished(client)["radl/bolted_plate/0"]
    names = re.findall(r"`([a-z]+/[a-z_]+)`", PAGE.partition("## What the metrics")[2].partition("Artifacts")[0])
    assert {name for name in names if not name.startswith("validation/")} <= set(run.data.metrics)
    text = PAGE.partition("Artifacts of a run: ")[2].partition("\n\n")[0]
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {name.rstrip("/") for name in re.findall(r"`([^`]+)`", text)} - {"heatmaps"} <= artifacts


@pytest.mark.docs
def test_the_pages_clicks_lead_to_what_its_pictures_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a browser, on runs of its own: the filter leaves two runs, and each chart has a line for each of them."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no chromium with its driver")
    monkeypatch.syspath_prepend(DOCS / "tools")
    import mlflow_pictures

    seen = mlflow_pictures.main(tmp_path, tmp_path / "store")
    assert sorted(seen.runs) == ["radl/bolted_plate/0", "radl/bolted_plate/1"]
    assert seen.lines == [2, 2]
    for name in ("mlflow-filter.png", "mlflow-compare.png"):
        assert Image.open(tmp_path / name).width > 1000


@pytest.mark.parametrize("name", re.findall(r"\]\((img/[^)]+)\)", PAGE))
def test_pictures_are_there_and_light(name: str) -> None:
    assert (DOCS / name).stat().st_size < 300_000
    assert Image.open(DOCS / name).width > 1000

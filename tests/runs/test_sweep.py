"""One real sweep through the command line, and everything that it must leave behind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import run_command
from mlflow import MlflowClient
from mlflow.entities import Run

GRID = ["-m", "method=radl,patchcore,nope", "category=bolted_plate,granite_tile", "seed=0,1"]
SMALL = ["preprocess.size=64", "trainer.max_epochs=2"]
METRICS = {
    "image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro", "auspro", "f1_max", "accuracy", "tpr_at_tnr_99",
    "tpr_at_tnr_95", "tpr_at_tnr_90", "recall_at_precision_99.6", "recall_at_precision_95", "recall_at_precision_90",
}  # fmt: skip


class Sweep:
    """A folder in which the grid ran, and what the command said."""

    def __init__(self, folder: Path, toy_root: Path) -> None:
        self.folder, self._toy_root = folder, toy_root
        self.first = self.again(fresh=True)

    def again(self, *more: str, fresh: bool = False) -> subprocess.CompletedProcess[str]:
        given = [*GRID, *SMALL, f"dataset.root={self._toy_root}", *more]
        return run_command(given, cwd=self.folder, fresh=fresh)

    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder}/runs/mlflow.db")

    def runs(self) -> list[Run]:
        client = self.client()
        return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))

    def artifacts(self, run: Run) -> Path:
        return self.folder / "runs" / "artifacts" / "adhoc" / run.info.run_id / "artifacts"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, toy_root: Path) -> Sweep:
    return Sweep(tmp_path_factory.mktemp("sweep"), toy_root)


def test_legal_cells_run_although_others_are_illegal(sweep: Sweep) -> None:
    assert sweep.first.returncode == 1
    assert "12 runs: 8 computed now, 4 failed." in sweep.first.stdout
    assert "method=nope" in sweep.first.stdout
    assert "Traceback" not in sweep.first.stdout + sweep.first.stderr
    assert len(sweep.runs()) == 8


def test_the_end_shows_a_table_and_what_to_do_next(sweep: Sweep) -> None:
    assert "toy/bolted_plate" in sweep.first.stdout
    assert "±" in sweep.first.stdout
    assert "mlflow ui --backend-store-uri sqlite:///runs/mlflow.db" in sweep.first.stdout
    assert "python -m harness.report" in sweep.first.stdout


def test_every_run_that_ends_is_a_line_and_nothing_is_drawn_where_nobody_looks(sweep: Sweep) -> None:
    lines = sweep.first.stderr.splitlines()
    assert [line.split("/")[0].strip() for line in lines] == [str(number) for number in range(1, 13)]
    assert lines[0].startswith(" 1/12  radl/toy/bolted_plate/0 finished  test/image_auroc 0.")
    assert [line for line in lines if "failed: " in line] == lines[-4:]


def test_nothing_is_written_but_runs(sweep: Sweep) -> None:
    assert {path.name for path in sweep.folder.iterdir()} <= {"runs", "reports"}


def test_the_same_command_runs_nothing_again(sweep: Sweep) -> None:
    again = sweep.again()
    assert "8 skipped (finished before), 4 failed" in again.stdout
    assert len(again.stderr.splitlines()) == 4
    assert len(sweep.runs()) == 8


def test_tags_and_params_identify_a_run(sweep: Sweep) -> None:
    runs = sweep.runs()
    assert len({run.data.tags["harness.run_key"] for run in runs}) == 8
    for run in runs:
        tags, params = run.data.tags, run.data.params
        assert run.info.run_name == f"{tags['harness.method']}/{tags['harness.category']}/{tags['harness.seed']}"
        assert tags["harness.dataset"] == "toy"
        assert tags["harness.protocol"] == "one_class"
        assert tags["harness.weights"] == "resnet18:random-0"
        assert tags["harness.finished"] == "true"
        assert tags["harness.trainable"] == ("true" if tags["harness.method"] == "radl" else "false")
        assert {"harness.data_fingerprint", "harness.git_commit", "harness.version", "harness.device"} <= set(tags)
        assert params["preprocess.size"] == "64"
        assert params["seed"] == tags["harness.seed"]


def test_every_epoch_of_a_trained_method_is_tracked(sweep: Sweep) -> None:
    client = sweep.client()
    for run in sweep.runs():
        steps = [0, 1] if run.data.tags["harness.method"] == "radl" else [0]
        for name in METRICS:
            history = client.get_metric_history(run.info.run_id, f"test/{name}")
            assert [metric.step for metric in history] == steps, name
            assert all(0 <= metric.value <= 1 for metric in history), name
        losses = client.get_metric_history(run.info.run_id, "train/loss")
        assert len(losses) == (2 if len(steps) == 2 else 0)


def test_the_oracle_is_the_earliest_best_epoch_and_never_the_result(sweep: Sweep) -> None:
    client = sweep.client()
    for run in sweep.runs():
        values = [m.value for m in client.get_metric_history(run.info.run_id, "test/image_auroc")]
        best = values.index(max(values))
        assert run.data.metrics["oracle/epoch"] == best
        for name in METRICS:
            history = client.get_metric_history(run.info.run_id, f"test/{name}")
            assert run.data.metrics[f"oracle/{name}"] == history[best].value
            assert run.data.metrics[f"test/{name}"] == history[-1].value


def test_costs_are_measured(sweep: Sweep) -> None:
    for run in sweep.runs():
        costs = ("time/train", "time/evaluation", "speed/images_per_second", "memory/host_peak")
        assert all(run.data.metrics[name] > 0 for name in costs)


def test_scores_are_one_row_an_image_and_give_the_metric(sweep: Sweep) -> None:
    from sklearn.metrics import roc_auc_score

    for run in sweep.runs():
        scores = pd.read_parquet(sweep.artifacts(run) / "scores.parquet")
        assert list(scores.columns) == ["image", "label", "defect", "split", "selection", "score"]
        assert scores["image"].is_unique
        assert len(scores) == 28
        assert ((scores["defect"] != "good") == scores["label"]).all()
        expected = roc_auc_score(scores["label"], scores["score"])
        assert run.data.metrics["test/image_auroc"] == pytest.approx(expected, abs=1e-12)


def test_heat_maps_show_the_same_images_for_every_method(sweep: Sweep) -> None:
    shown = {}
    for run in sweep.runs():
        names = {path.name for path in (sweep.artifacts(run) / "heatmaps").glob("subset_*.png")}
        assert len(names) == 8
        shown.setdefault(run.data.tags["harness.category"], set()).add(frozenset(names))
        assert len(list((sweep.artifacts(run) / "heatmaps").glob("high_good_*.png"))) == 3
        assert len(list((sweep.artifacts(run) / "heatmaps").glob("low_anomalous_*.png"))) == 3
    assert all(len(names) == 1 for names in shown.values())


def test_the_configuration_of_a_run_can_be_read(sweep: Sweep) -> None:
    run = sweep.runs()[0]
    config = yaml.safe_load((sweep.artifacts(run) / "config.yaml").read_text())
    assert config["method"]["name"] == run.data.tags["harness.method"]
    assert "torch==" in (sweep.artifacts(run) / "environment.txt").read_text()


def test_a_moved_store_still_reports(sweep: Sweep, tmp_path: Path) -> None:
    shutil.copytree(sweep.folder / "runs", tmp_path / "elsewhere")
    done = run_command(["tracking.uri=sqlite:///elsewhere/mlflow.db"], "harness.report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reports" / "all" / "report.md").read_text()
    assert "patchcore" in page
    assert (tmp_path / "reports" / "all" / "figures" / "epochs_toy.png").stat().st_size > 1000


def test_a_finished_run_counts_whichever_experiment_ran_it(sweep: Sweep) -> None:
    again = sweep.again("experiment=radl_settings", "method=radl")
    assert "skipped (finished before)" in again.stdout

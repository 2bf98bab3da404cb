"""A method is one YAML and one class, a data set in a known layout one YAML: both added as a user does, nothing edited.

The method then has to keep the contract of every method, test by test.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import environment, run_command
from mlflow import MlflowClient

# These are collected here too: they ask for `fitted`, which is the new method in this file.
from test_contract import (
    Fitted,
    configure,
    place,
    root,
    test_a_run_tracks_its_epochs_and_says_what_the_same_seed_said,
    test_an_image_is_judged_alone_as_in_company,
    test_it_works_in_anomalibs_engine,
    test_saved_and_loaded_it_says_the_same,
    test_scores_and_maps_are_finite_and_have_their_shapes,
)

__all__ = [
    "place",
    "root",
    "test_a_run_tracks_its_epochs_and_says_what_the_same_seed_said",
    "test_an_image_is_judged_alone_as_in_company",
    "test_it_works_in_anomalibs_engine",
    "test_saved_and_loaded_it_says_the_same",
    "test_scores_and_maps_are_finite_and_have_their_shapes",
]

CLASS = '''
"""How far each cell of an image is from the mean of normal images."""

import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from anomalib.models.components import AnomalibModule, MemoryBankMixin
from torch import nn
from torch.nn import functional as F


class MeanImageModel(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, images):
        distance = (F.avg_pool2d(images, self.cell) - self.mean[:, None, None]).norm(dim=1, keepdim=True)
        maps = F.interpolate(distance, images.shape[-2:], mode="bilinear")
        return InferenceBatch(pred_score=distance.mean(dim=(1, 2, 3)), anomaly_map=maps)


class MeanImage(MemoryBankMixin, AnomalibModule):
    def __init__(self, cell=8, pre_processor=True, post_processor=True, evaluator=True, visualizer=True):
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        self.model = MeanImageModel(cell)
        self.seen = []

    def training_step(self, batch, *args, **kwargs):
        self.seen.append(batch.image.mean(dim=(2, 3)))
        return torch.tensor(0.0, requires_grad=True, device=self.device)

    def fit(self):
        self.model.mean = torch.cat(self.seen).mean(0)
        self.seen.clear()

    def validation_step(self, batch, *args, **kwargs):
        return batch.update(**self.model(batch.image)._asdict())

    def configure_optimizers(self):
        return None

    @property
    def trainer_arguments(self):
        return {"max_epochs": 1, "num_sanity_val_steps": 0}

    @property
    def learning_type(self):
        return LearningType.ONE_CLASS
'''
METHOD = """
name: mean_image
version: 1
model: mean_image.MeanImage
epochs: 1
batch_size: 8
passes: 1
backbone: null
layers: null
cell: 8
"""
DATASET = """
layout: mvtec
name: line7
root: images
categories: [parts]
default_category: parts
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the class, and with `conf/`: the method's YAML and the data set's."""
    folder = tmp_path_factory.mktemp("mine")
    for group, name, text in (("method", "mean_image", METHOD), ("dataset", "line7", DATASET)):
        (folder / "conf" / group).mkdir(parents=True)
        (folder / "conf" / group / f"{name}.yaml").write_text(text)
    (folder / "mean_image.py").write_text(CLASS)
    return folder


@pytest.fixture(scope="module")
def fitted(mine: Path, root: Path, place: Path) -> Fitted:
    sys.path.append(str(mine))
    found = f"hydra.searchpath=[{(mine / 'conf').as_uri()}]"
    return Fitted(configure("mean_image", root, place, found, "features.store=off"))


def test_the_command_line_knows_it_at_once(mine: Path, root: Path, tmp_path: Path) -> None:
    """On the new data set, from a class on PYTHONPATH; an argument that the class does not take is named."""

    def command(*arguments: str, module: str = "harness") -> subprocess.CompletedProcess[str]:
        given = [f"--config-dir={mine / 'conf'}", *arguments]
        return run_command(given, module, cwd=tmp_path, env=environment(PYTHONPATH=str(mine)))

    (tmp_path / "images").symlink_to(root)
    small = ["dataset=line7", "method=mean_image", "preprocess=pad", "preprocess.size=64", "metrics.heatmaps=0"]
    ablation = ["-m", *small, "method.cell=4,16"]
    done = command(*ablation)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs: 2 computed now." in done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("adhoc").experiment_id])
    assert {run.data.params["method.cell"] for run in runs} == {"4", "16"}
    for run in runs:
        assert (run.info.run_name, run.data.tags["harness.dataset"]) == ("mean_image/parts/0", "line7")
        assert (run.data.tags["harness.weights"], run.data.tags["harness.trainable"]) == ("none", "false")
        assert 0 <= run.data.metrics["test/image_auroc"] <= 1
    assert "2 skipped (finished before)" in command(*ablation).stdout

    wrong = command(*small, "method.cel=4")
    assert wrong.returncode == 1
    assert "no setting method.cel" in wrong.stderr and len(wrong.stderr.splitlines()) == 1

    report = command(module="harness.report")
    assert report.returncode == 0, report.stderr
    table = pd.read_csv(tmp_path / "reports" / "all" / "tables" / "image_auroc.csv")
    assert table["method"].str.startswith("mean_image").all() and len(table) == 2

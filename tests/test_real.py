"""On real images with a real backbone: the published figures, and plain anomalib side by side (`nox -s real`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig

from harness.identity import derive_seed, identify
from harness.models.backbones import create_backbone
from harness.runs.execute import execute
from harness.runs.outcome import Outcome
from harness.schema import compose

SHARED = Path(__file__).resolve().parents[2] / "shared"
WEIGHTS = SHARED / "weights" / "resnet18.safetensors"
PUBLISHED = {("padim", "bottle"): 0.994, ("padim", "screw"): 0.759}  # image AUROC of anomalib's README, ResNet18

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not WEIGHTS.is_file(), reason="../shared holds no real images and weights here"),
]


def configure(folder: Path, *overrides: str) -> DictConfig:
    return compose(
        [
            "dataset=folder", f"dataset.root={SHARED}/data/mvtec_ad", "preprocess=resize", "backbone=resnet18",
            f"backbone.weights={WEIGHTS}", f"tracking.directory={folder}/runs", *overrides,
        ]
    )  # fmt: skip


def scores(folder: Path, outcome: Outcome) -> pd.Series:
    (found,) = (folder / "runs" / "artifacts" / "adhoc" / outcome.run_id).rglob("scores.parquet")
    return pd.read_parquet(found).set_index("image")["score"]


def engine_scores(config: DictConfig, folder: Path, **arguments: object) -> pd.Series:
    """Return the raw scores of anomalib's own Engine on the same images, seeded as the harness seeds its run."""
    import lightning
    import torch
    from anomalib import models
    from anomalib.data import Folder
    from anomalib.engine import Engine

    torch.set_num_threads(1)
    root = Path(config.dataset.root) / config.category
    defects = sorted(path.name for path in (root / "test").iterdir() if path.name != "good")
    data = Folder(
        name="real", root=root, normal_dir="train/good", normal_test_dir="test/good",
        abnormal_dir=[f"test/{name}" for name in defects], val_split_mode="same_as_test", num_workers=0,
    )  # fmt: skip
    lightning.seed_everything(derive_seed("train", config.seed, identify(config).fingerprint, config.category))
    model_class = getattr(models, config.method.model.rpartition(".")[2])
    size = config.preprocess.size
    model = model_class(
        backbone=create_backbone(config.backbone), layers=list(config.method.layers),
        pre_processor=model_class.configure_pre_processor((size, size)), post_processor=False, evaluator=False,
        visualizer=False, **arguments,
    )  # fmt: skip
    engine = Engine(default_root_dir=folder, accelerator="cpu", logger=False)
    engine.fit(model=model, datamodule=data)
    found = {}
    for batch in engine.predict(model=model, datamodule=data):
        for path, score in zip(batch.image_path, batch.pred_score, strict=True):
            found[Path(path).relative_to(root).as_posix()] = float(score)
    return pd.Series(found)


@pytest.mark.parametrize("category", ["bottle", "screw"])
def test_padim_stands_within_noise_of_the_published_figure(category: str, tmp_path: Path) -> None:
    outcome = execute(configure(tmp_path, "method=padim", f"category={category}"))
    assert outcome.metrics["test/image_auroc"] == pytest.approx(PUBLISHED["padim", category], abs=0.03)


def test_padim_is_anomalibs_image_by_image(tmp_path: Path) -> None:
    config = configure(tmp_path, "method=padim", "category=bottle")
    ours = scores(tmp_path, execute(config))
    theirs = engine_scores(config, tmp_path / "anomalib", n_features=100)
    np.testing.assert_allclose(ours, theirs[ours.index], rtol=1e-3)


def test_patchcore_stands_beside_anomalibs(tmp_path: Path) -> None:
    """The order of training images differs, and with it the coreset: equal up to what another seed changes."""
    from harness.metrics import image_auroc

    overrides = ["method=patchcore", "category=bottle", "method.coreset_sampling_ratio=0.01", "preprocess.size=128"]
    config = configure(tmp_path, *overrides)
    ours = scores(tmp_path, execute(config))
    theirs = engine_scores(config, tmp_path / "anomalib", coreset_sampling_ratio=0.01)
    labels = [not name.startswith("test/good/") for name in ours.index]
    assert image_auroc(labels, ours) == pytest.approx(image_auroc(labels, theirs[ours.index]), abs=0.01)
    assert np.corrcoef(ours, theirs[ours.index])[0, 1] > 0.98

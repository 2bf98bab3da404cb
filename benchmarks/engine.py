"""anomalib's own Engine on the same images and settings: what the harness is compared with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from anomalib import models
from anomalib.data import Folder
from anomalib.engine import Engine
from omegaconf import DictConfig

from harness.identity import derive_seed, identify
from harness.models.backbones import create_backbone


def engine_scores(
    config: DictConfig, folder: Path, train: Iterable[Any] | None = None, **arguments: object
) -> pd.Series:
    """Train and score with anomalib's model and Engine, seeded as the harness seeds its run.

    Post-processor and evaluator are off: scores are raw, and the Engine is spared the metrics.

    Args:
        config: of a run with `preprocess=resize` on a data set in MVTec layout.
        folder: where the Engine writes.
        train: training batches; None takes anomalib's own data module, which reads and resizes the images.
        arguments: of the model, besides backbone and layers.

    Returns:
        The raw image score by image name.
    """
    torch.set_num_threads(1)
    identity = identify(config)
    root = identity.category.root
    defects = sorted(path.name for path in (root / "test").iterdir() if path.name != "good")
    data = Folder(
        name="real", root=root, normal_dir="train/good", normal_test_dir="test/good",
        abnormal_dir=[f"test/{name}" for name in defects], val_split_mode="none", num_workers=0,
    )  # fmt: skip
    lightning.seed_everything(derive_seed("train", config.seed, identity.fingerprint, config.category))
    model_class = getattr(models, config.method.model.rpartition(".")[2])
    size = config.preprocess.size
    pre_processor = model_class.configure_pre_processor((size, size))
    model = model_class(
        backbone=create_backbone(config.backbone), layers=list(config.method.layers), pre_processor=pre_processor,
        post_processor=False, evaluator=False, visualizer=False, **arguments,
    )  # fmt: skip
    engine = Engine(default_root_dir=folder, accelerator="cpu", logger=False)
    data.setup()
    engine.fit(model=model, train_dataloaders=train or data.train_dataloader())  # no validation: it would score twice
    found = {}
    for batch in engine.predict(model=model, datamodule=data):
        for path, score in zip(batch.image_path, batch.pred_score, strict=True):
            found[Path(path).relative_to(root.resolve()).as_posix()] = float(score)  # anomalib resolves paths
    return pd.Series(found)

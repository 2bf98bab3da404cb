"""The `folder` fixture's images as anomalib reads them."""

from __future__ import annotations

from pathlib import Path

from anomalib.data import Folder


def make_datamodule(folder: Path, train_batch_size: int = 4, eval_batch_size: int = 4) -> Folder:
    return Folder(
        name="stripes",
        root=folder,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/hole",
        mask_dir="ground_truth/hole",
        train_batch_size=train_batch_size,
        eval_batch_size=eval_batch_size,
        num_workers=0,
        val_split_mode="same_as_test",
    )

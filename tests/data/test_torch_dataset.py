import shutil
from pathlib import Path
from types import SimpleNamespace

import torch
from disk_layouts import dataset, write_image
from torch.utils.data import DataLoader

from harness.data import read_category
from harness.data.geometry import build_geometry
from harness.data.torch_dataset import SampleDataset, collate

GEOMETRY = build_geometry(SimpleNamespace(mode="pad", size=32, resize=None, window=None, fill=0.0, grey=False))


def test_batches_of_image_items(mvtec: Path) -> None:
    category = read_category(dataset(mvtec), "part")
    data = SampleDataset(category, category.test, GEOMETRY)
    [batch] = DataLoader(data, batch_size=4, collate_fn=collate)
    assert batch.image.shape == (4, 3, 32, 32) and batch.image.dtype == torch.float32
    assert batch.image.min() >= 0 and batch.image.max() <= 1
    assert batch.gt_label.tolist() == [True, True, False, False]
    assert batch.gt_mask.shape == (4, 32, 32)
    assert [bool(mask.any()) for mask in batch.gt_mask] == [True, True, False, False]
    assert batch.image_path == [str(s.path) for s in category.test]


def test_no_masks_in_a_category_without_masks(mvtec: Path) -> None:
    shutil.rmtree(mvtec / "part" / "ground_truth")
    category = read_category(dataset(mvtec), "part")
    [batch] = DataLoader(SampleDataset(category, category.test, GEOMETRY), batch_size=4, collate_fn=collate)
    assert batch.gt_mask is None and batch.gt_label.tolist() == [True, True, False, False]


def test_cache_reads_a_file_once_and_gives_the_same(mvtec: Path) -> None:
    category = read_category(dataset(mvtec), "part")
    cached = SampleDataset(category, category.train, GEOMETRY, cache={})
    plain = SampleDataset(category, category.train, GEOMETRY)
    first = cached[0].image.clone()
    assert torch.equal(first, plain[0].image)
    write_image(category.train[0].path, seed=99)
    assert torch.equal(cached[0].image, first)
    assert not torch.equal(plain[0].image, first)

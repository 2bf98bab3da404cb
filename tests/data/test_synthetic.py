"""Synthetic defects: they show, they lie under their masks, they are the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import synthetic
from harness.data.masks import load_image, load_regions
from harness.data.readers import read_category
from harness.data.records import Category, Sample
from harness.data.synthetic import LARGEST, SMALLEST, VISIBLE, damage
from harness.errors import DataError
from harness.schema import DatasetConfig


@pytest.fixture(params=["granite_tile", "conveyor_rail", "bolted_plate"])
def category(request: pytest.FixtureRequest, toy_root: Path) -> Category:
    return read_category(DatasetConfig("toy", root=str(toy_root)), request.param)


def test_every_copy_is_changed_under_its_mask_and_nowhere_else(category: Category, tmp_path: Path) -> None:
    normals = category.train[:9]
    damaged = damage(normals, 3, tmp_path / "made")
    assert {sample.defect for sample in damaged} == {"synthetic_cutpaste", "synthetic_scar", "synthetic_blob"}
    assert len({sample.name for sample in damaged}) == 9
    for normal, copy in zip(normals, damaged, strict=True):
        before, after = (load_image(sample.path).astype(float) for sample in (normal, copy))
        regions = load_regions(category, copy)  # plain ones, also where masks of the category mean defects by value
        mask = np.logical_or.reduce([region for region, _ in regions])
        assert (copy.label, copy.split, copy.synthetic) == (1, "validation", True)
        assert before.shape == after.shape and SMALLEST <= mask.mean() <= LARGEST
        assert not np.abs(after - before)[~mask].any()
        assert np.abs(after - before)[mask].mean() >= VISIBLE - 0.01


def test_copies_are_the_same_for_a_seed_whatever_the_order_and_differ_between_seeds(
    category: Category, tmp_path: Path
) -> None:
    normals = category.train[:4]
    made = [
        damage(given, seed, tmp_path / name)
        for name, given, seed in (("a", normals, 3), ("b", normals[::-1], 3), ("c", normals, 4))
    ]
    first, again, other = ([load_image(sample.path) for sample in copies] for copies in made)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    # Images and truths are kept in memory by their names: another draw has other ones.
    assert not {sample.name for sample in made[0]} & {sample.name for sample in made[2]}


def test_pixels_are_the_same_on_every_machine(toy_root: Path, tmp_path: Path) -> None:
    """Change SYNTHETIC_VERSION with these numbers."""
    category = read_category(DatasetConfig("toy", root=str(toy_root)), "granite_tile")
    sums = [
        int(load_image(sample.path).astype(int).sum()) for sample in damage(category.train[:3], 0, tmp_path / "made")
    ]
    assert (synthetic.SYNTHETIC_VERSION, sums) == (1, [6614418, 6355025, 6573153])


def test_grey_images_stay_grey(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    sample = Sample(tmp_path / "grey.png", "train/good/grey.png", "train", "good")
    (copy,) = damage([sample], 0, tmp_path / "made")
    image = load_image(copy.path)
    assert (image[..., :1] == image).all()


def test_an_image_in_which_nothing_shows_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.full((40, 40), 128, np.uint8)).save(tmp_path / "flat.png")
    sample = Sample(tmp_path / "flat.png", "train/good/flat.png", "train", "good")
    monkeypatch.setattr(synthetic, "VISIBLE", 200.0)
    with pytest.raises(DataError, match=r"No synthetic defect would show in .*flat\.png"):
        damage([sample], 0, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["flat.png"]

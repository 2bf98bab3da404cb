"""A table beside the images: what is read, what is selected, and how images are turned upright by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_layouts import dataset, write_image, write_mask

from harness.data.checks import check_category
from harness.data.fingerprint import fingerprint
from harness.data.geometry import build_geometry
from harness.data.masks import load_image, load_mask, load_regions, load_sample, sample_shape
from harness.data.readers import read_category
from harness.data.records import Category
from harness.data.torch_dataset import SampleDataset
from harness.errors import DataError
from harness.schema import PreprocessConfig

ROWS = """image,camera,rotation
train/good/0.png,stationary,0
train/good/1.png,mobile,90
test/good/0.png,stationary,180
test/good/1.png,mobile,-90
test/crack/0.png,mobile,270
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    for i, name in enumerate(("train/good/0", "train/good/1", "test/good/0", "test/good/1", "test/crack/0")):
        write_image(folder / f"{name}.png", i)
    write_mask(folder / "ground_truth/crack/0_mask.png", [(2, 3, 5, 12)])
    (folder / "metadata.csv").write_text(ROWS)
    return tmp_path


def read(root: Path, **kwargs: Any) -> Category:
    return read_category(dataset(root, **kwargs), "labels")


def names(category: Category) -> list[str]:
    return [sample.name for sample in category.samples]


def test_a_table_changes_nothing_until_it_is_used(root: Path) -> None:
    with_table = read(root)
    (root / "labels/metadata.csv").unlink()
    without = read(root)
    assert (fingerprint(with_table), names(with_table)) == (fingerprint(without), names(without))
    assert with_table.metadata["test/crack/0.png"] == {"camera": "mobile", "rotation": "270"}


def test_images_are_selected_by_a_column(root: Path) -> None:
    mobile = read(root, select={"camera": "mobile"})
    assert names(mobile) == ["train/good/1.png", "test/crack/0.png", "test/good/1.png"]
    assert {s.name for s in mobile.left_out} == {"train/good/0.png", "test/good/0.png"}
    assert fingerprint(mobile) != fingerprint(read(root))
    assert names(read(root, select={"camera": ["mobile", "stationary"]})) == names(read(root))


def test_normal_images_alone_are_selected_and_defective_ones_stay(root: Path) -> None:
    """Paper 004, section 3.3: mobile cameras' damaged labels serve the stationary ones too."""
    stationary = read(root, normals={"camera": "stationary"})
    assert names(stationary) == ["train/good/0.png", "test/crack/0.png", "test/good/0.png"]


def test_masks_of_images_that_are_left_out_are_no_stray_files(root: Path) -> None:
    write_image(root / "labels/test/crack/1.png", 9)
    write_mask(root / "labels/ground_truth/crack/1_mask.png", [(2, 3, 5, 12)])
    (root / "labels/metadata.csv").write_text(ROWS + "test/crack/1.png,stationary,0\n")
    assert check_category(read(root, select={"camera": "stationary"})) == []


def test_images_and_masks_are_turned_clockwise_by_what_the_column_says(root: Path) -> None:
    turned = read(root, rotation="rotation")
    by_name = {sample.name: sample for sample in turned.samples}
    for name, clockwise in (
        ("train/good/0.png", 0),
        ("train/good/1.png", 1),
        ("test/good/0.png", 2),
        ("test/good/1.png", 3),
    ):
        stored = load_image(root / "labels" / name)
        np.testing.assert_array_equal(load_sample(by_name[name]), np.rot90(stored, -clockwise))
        assert sample_shape(by_name[name]) == np.rot90(stored, -clockwise).shape[:2]
    crack = by_name["test/crack/0.png"]
    upright = np.zeros((16, 24), bool)
    upright[3:12, 2:5] = True
    upright = np.rot90(upright, 1)  # 270 degrees clockwise
    np.testing.assert_array_equal(load_mask(turned, crack), upright)
    ((region, area),) = load_regions(turned, crack)
    np.testing.assert_array_equal(region, upright)
    assert area == upright.sum()


def test_a_turned_image_is_another_image(root: Path) -> None:
    assert fingerprint(read(root, rotation="rotation")) != fingerprint(read(root))
    (root / "labels/metadata.csv").write_text(
        ROWS.replace(",90", ",0").replace("180", "0").replace("-90", "0").replace("270", "0")
    )
    assert fingerprint(read(root, rotation="rotation")) == fingerprint(read(root))


def test_the_model_sees_what_is_upright(root: Path) -> None:
    turned = read(root, rotation="rotation")
    geometry = build_geometry(PreprocessConfig(mode="pad", size=24))
    item = SampleDataset(turned, turned.test, geometry)[0]
    crack = turned.test[0]
    assert crack.label and item.image.shape == (3, 24, 24)
    expected = geometry.image(np.ascontiguousarray(np.rot90(load_image(crack.path), 1)))
    np.testing.assert_array_equal(item.image, expected)


@pytest.mark.parametrize(
    ("rows", "kwargs", "said"),
    [
        ("image,camera\ntest/nope.png,a\n", {}, "row 2: there is no image test/nope.png"),
        ("file,camera\na,b\n", {}, "needs the column `image`"),
        ("image,camera\ntrain/good/0.png,a,b\n", {}, "row 2: give every row a value a column"),
        ("image;camera\ntrain/good/0.png;a\n", {}, "separated by commas"),
        ("image,camera,camera\ntrain/good/0.png,a,b\n", {}, "different names for the others"),
        ("image,camera\ntrain/good/0.png,a\ntrain/good/0.png,b\n", {}, "row 3: train/good/0.png is there twice"),
        (ROWS, {"select": {"layout": "a"}}, "no column 'layout': it has camera, rotation"),
        (
            ROWS,
            {"select": {"camera": "handheld"}},
            "has camera=handheld in metadata.csv; values are mobile, stationary",
        ),
        (ROWS, {"select": "mobile"}, "dataset.select=mobile is not possible"),
        (
            ROWS.replace("test/crack/0.png,mobile,270\n", ""),
            {"select": {"camera": "mobile"}},
            "gives test/crack/0.png no camera",
        ),
        (ROWS.replace("180", "45"), {"rotation": "rotation"}, "turns test/good/0.png by '45'"),
        (ROWS.replace("180", "up"), {"rotation": "rotation"}, "turns test/good/0.png by 'up'"),
        (None, {"rotation": "rotation"}, "there is no such table"),
    ],
)
def test_what_does_not_fit_is_one_sentence(root: Path, rows: str | None, kwargs: dict[str, Any], said: str) -> None:
    path = root / "labels/metadata.csv"
    if rows is None:
        path.unlink()
    else:
        path.write_text(rows)
    with pytest.raises(DataError) as caught:
        read(root, **kwargs)
    assert said in str(caught.value)

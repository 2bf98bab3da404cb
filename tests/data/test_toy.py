import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from disk_layouts import dataset
from PIL import Image

from harness.data import fingerprint, list_categories, read_category, toy
from harness.data.checks import check_category
from harness.data.masks import load_image, load_regions, load_sample
from harness.schema import compose

# Of harness.data.toy.VERSION: a change here means other pixels, so raise the version with it.
FINGERPRINTS = {
    "bolted_plate": "cdff56725f5ceef12716c902",
    "conveyor_rail": "6295e573499ad2e8ab7a4d83",
    "granite_tile": "f9ce1bafb6985c575fb97e39",
    "vin_label": "47110b22275d1ccfb2d54ddd",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    start = time.perf_counter()
    toy.generate(root)
    assert time.perf_counter() - start < 60  # seconds; about 3 on a free core
    return root


def test_three_sound_categories(root: Path) -> None:
    data = dataset(root, "toy", name="toy", categories=list(compose([]).dataset.categories))
    assert list_categories(data) == ["bolted_plate", "conveyor_rail", "granite_tile"]
    for name in list_categories(data):
        category = read_category(data, name)
        assert check_category(category) == []
        assert len(category.train) == 40
        assert Counter(s.label for s in category.test) == {0: 12, 1: 16}
        assert all(load_regions(category, s) for s in category.test if s.label)


def test_bytes_are_the_same_everywhere(root: Path) -> None:
    data = dataset(root, "toy")
    assert {name: fingerprint(read_category(data, name)) for name in list_categories(data)} == FINGERPRINTS


def test_labels_are_told_apart_by_their_metadata(root: Path) -> None:
    """Damaged ones are all mobile cameras'; upright, all of a layout have their bars below."""
    category = read_category(dataset(root, "toy", name="toy_labels", rotation="rotation"), "vin_label")
    assert check_category(category) == []
    assert Counter(s.label for s in category.test) == {0: 24, 1: 26} and len(category.train) == 48
    rows = category.metadata
    assert {rows[s.name]["camera"] for s in category.samples if s.label} == {"mobile"}
    assert {row["rotation"] for row in rows.values()} == {"0", "90", "180", "270"}
    for sample in category.samples:
        image = load_sample(sample)
        assert image.shape == (72, 112, 3)
        if rows[sample.name]["layout"] == "rest_of_world" and not sample.label:
            assert image[54:60, 14:98].mean() > image[13:19, 14:98].mean() + 20  # the bars of the code; the first line
        if rows[sample.name]["camera"] == "stationary":
            assert (image[..., :1] == image).all()


def test_logical_defects_have_saturation_thresholds(root: Path) -> None:
    category = read_category(dataset(root, "toy"), "bolted_plate")
    for sample in category.test:
        for mask, area in load_regions(category, sample):
            if sample.defect == "missing_bolt":
                assert area == int(0.7 * mask.sum())
            elif sample.defect == "misplaced_label":
                assert area == 338 < mask.sum()
            else:
                assert area == mask.sum()
        assert len(sample.masks) == {"good": 0, "misplaced_label": 2}.get(sample.defect, 1)


def test_rail_is_not_square_and_most_of_its_defects_are_where_a_crop_cuts(root: Path) -> None:
    category = read_category(dataset(root, "toy"), "conveyor_rail")
    outer = []
    for sample in category.test:
        assert load_image(sample.path).shape == (112, 192, 3)
        outer += [bool(mask[:, :24].any() or mask[:, -24:].any()) for mask, _ in load_regions(category, sample)]
    assert np.mean(outer) > 0.6


def test_generating_again_changes_nothing(root: Path) -> None:
    folder = toy.generate(root)
    before = folder.stat().st_mtime_ns
    assert toy.generate(root) == folder and folder.stat().st_mtime_ns == before


def test_several_processes_at_once_leave_one_whole_set(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = pool.map(toy.generate, [tmp_path] * 2)
    assert len(set(folders)) == 1
    assert os.listdir(tmp_path) == [toy.VERSION]


def test_killed_while_drawing_leaves_nothing_half_done(tmp_path: Path) -> None:
    code = f"import pathlib; from harness.data import toy; toy.generate(pathlib.Path({str(tmp_path)!r}))"
    child = subprocess.Popen([sys.executable, "-c", code])
    while not list(tmp_path.glob(".*/*/train/good/*.png")):
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert not (tmp_path / toy.VERSION).exists()
    assert len(list(toy.generate(tmp_path).glob("*/train/good/*.png"))) == 3 * 40 + 48


def test_own_png_writer_against_pillow(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (300, 400, 3)):  # the last spans several deflate blocks
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        toy._write_png(tmp_path / "a.png", pixels)
        assert (np.asarray(Image.open(tmp_path / "a.png")) == pixels).all()

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from disk_layouts import dataset, write_image, write_mask

from harness.data import list_categories, read_category
from harness.errors import DataError


def test_reads_mvtec_layout_with_both_mask_namings(mvtec: Path) -> None:
    category = read_category(dataset(mvtec), "part")
    assert (category.dataset, category.name, category.masked) == ("set", "part", True)
    assert [s.name for s in category.train] == [f"train/good/{i:03d}.png" for i in range(3)]
    assert [(s.name, s.label) for s in category.test] == [
        ("test/crack/000.png", 1),
        ("test/crack/001.png", 1),
        ("test/good/000.png", 0),
        ("test/good/001.png", 0),
    ]
    assert [m.name for s in category.test for m in s.masks] == ["000_mask.png", "001.png"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "tif", "TIFF", "webp", "ppm", "pgm"])
def test_reads_any_image_format_and_none_that_is_hidden(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / "part" / "train" / "good" / "a.png").rename(
        tmp_path / "part" / "train" / "good" / f"a.{suffix}"
    )
    for ignored in ("._a.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "part" / "train" / "good" / ignored).write_bytes(b"x")
    category = read_category(dataset(tmp_path), "part")
    assert [s.name for s in category.samples] == [f"train/good/a.{suffix}"]


def test_category_without_masks(mvtec: Path) -> None:
    shutil.rmtree(mvtec / "part" / "ground_truth")
    category = read_category(dataset(mvtec), "part")
    assert not category.masked and all(s.masks == () for s in category.samples)


def loco(root: Path) -> Path:
    part = root / "box"
    write_image(part / "train" / "good" / "000.png", 1)
    write_image(part / "validation" / "good" / "000.png", 2)
    write_image(part / "test" / "good" / "000.png", 3)
    write_image(part / "test" / "logical_anomalies" / "079.png", 4)
    for i, value in enumerate((3, 7)):
        write_mask(part / "ground_truth" / "logical_anomalies" / "079" / f"{i:03d}.png", [(i, i, 9, 9)], value)
    entry = {"defect_name": "missing", "pixel_value": 3, "saturation_threshold": 0.7, "relative_saturation": True}
    other = entry | {"pixel_value": 7, "saturation_threshold": 20, "relative_saturation": False}
    (part / "defects_config.json").write_text(json.dumps([entry, other]))
    return part


def test_reads_loco(tmp_path: Path) -> None:
    loco(tmp_path)
    category = read_category(dataset(tmp_path, "loco", name="mvtec_loco"), "box")
    assert [len(s) for s in (category.train, category.validation, category.test)] == [1, 1, 2]
    assert [m.name for m in category.test[1].masks] == ["000.png", "001.png"]
    assert category.defects[3].relative_saturation and category.defects[7].saturation_threshold == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is missing"),
        ("{", "malformed"),
        ('[{"defect_name": "a"}]', "malformed.*pixel_value"),
        (
            '[{"defect_name": "a", "pixel_value": 0, "saturation_threshold": 1, "relative_saturation": true}]',
            "out of range",
        ),
    ],
)
def test_defects_config_must_be_sound(tmp_path: Path, text: str | None, message: str) -> None:
    path = loco(tmp_path) / "defects_config.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=f"defects_config.json.*{message}"):
        read_category(dataset(tmp_path, "autovi"), "box")


def test_conflicting_thresholds_of_one_pixel_value(tmp_path: Path) -> None:
    path = loco(tmp_path) / "defects_config.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps([*entries, entries[0] | {"saturation_threshold": 0.5, "defect_name": "swapped"}]))
    with pytest.raises(DataError, match=r"pixel value 3 two saturation thresholds \(missing and swapped\)"):
        read_category(dataset(tmp_path, "loco"), "box")


def test_visa_after_the_official_split_and_raw(tmp_path: Path, mvtec: Path) -> None:
    (tmp_path / "visa" / "split_csv").mkdir(parents=True)
    visa = dataset(tmp_path / "visa", "visa", name="visa")
    with pytest.raises(DataError, match=r"raw VisA archive.*download=true.*visa_pytorch"):
        read_category(visa, "part")
    shutil.move(mvtec, tmp_path / "visa" / "visa_pytorch")
    assert read_category(visa, "part").masked
    assert list_categories(visa) == ["part"]


def test_errors_name_the_path_and_what_exists(mvtec: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no category 'prat' under .*set: it has part\."):
        read_category(dataset(mvtec), "prat")
    with pytest.raises(DataError, match=r"nowhere does not exist.*dataset.root"):
        read_category(dataset(tmp_path / "nowhere"), "part")
    with pytest.raises(DataError, match=r"needs dataset.root=FOLDER"):
        read_category(dataset(None), "part")
    with pytest.raises(DataError, match=r"is a category itself.*category=part"):
        read_category(dataset(mvtec / "part"), "good")
    (mvtec / "hollow" / "train" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match=r"'hollow' is empty: no image under .*hollow/train/good"):
        read_category(dataset(mvtec), "hollow")


def test_list_categories(mvtec: Path, tmp_path: Path) -> None:
    shutil.copytree(mvtec / "part", mvtec / "another")
    (mvtec / "papers").mkdir()
    assert list_categories(dataset(mvtec)) == ["another", "part"]
    assert list_categories(dataset(mvtec, categories=["part", "absent"])) == ["part"]
    with pytest.raises(DataError, match=r"No category under .*papers"):
        list_categories(dataset(mvtec / "papers"))
    soon = dataset(tmp_path / "soon", name="mvtec_ad", download=True, categories=["b", "a"])
    assert list_categories(soon) == ["a", "b"]


def test_reading_checking_and_drawing_do_not_import_torch() -> None:
    code = (
        "import sys, harness.data, harness.data.checks, harness.data.masks, harness.data.toy_scenes, "
        "harness.data.download, harness.data.__main__; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

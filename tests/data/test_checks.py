import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from disk_layouts import dataset, write_image, write_mask
from PIL import Image

from harness.data import list_categories, read_category
from harness.data.__main__ import main
from harness.data.checks import check_category

SHARED = Path(__file__).parents[3] / "shared" / "data"


def texts(root: Path, severity: str = "error") -> list[str]:
    problems = check_category(read_category(dataset(root), "part"))
    return [p.text for p in problems if p.severity == severity]


def test_sound_data_have_no_problem(mvtec: Path) -> None:
    assert check_category(read_category(dataset(mvtec), "part")) == []


def test_all_problems_at_once(mvtec: Path) -> None:
    part = mvtec / "part"
    (part / "train" / "good" / "000.png").write_bytes(b"not an image")
    shutil.copy(part / "train" / "good" / "001.png", part / "test" / "good" / "copy.png")
    write_mask(part / "ground_truth" / "crack" / "001.png", [(0, 0, 2, 2)], size=(12, 8))
    (part / "ground_truth" / "crack" / "000_mask.png").rename(part / "ground_truth" / "crack" / "007_mask.png")
    write_image(part / "train" / "scratch" / "000.png", 50)
    write_image(part / "test" / "loose.png", 51)
    write_image(part / "test" / "crack" / "deep" / "000.png", 52)
    found = texts(mvtec)
    for culprit, remedy in (
        ("train/good/000.png cannot be read as an image", "replace the file"),
        ("train/good/001.png and test/good/copy.png are the same file", "remove one"),
        ("crack/001.png is 12×8 but its image is 24×16", "make them the same size"),
        ("test/crack/000.png has no mask", "add ground_truth/crack/000_mask.png"),
        ("007_mask.png belongs to no image of test/crack", "rename or remove"),
        ("train/scratch holds 1 images that are not used", "move them to test/scratch"),
        ("test holds loose.png outside any folder", "move them"),
        ("test/crack/deep is a folder too deep", "move them up"),
    ):
        assert [t for t in found if culprit in t and remedy in t], (culprit, found)
    assert len(found) == 8


def test_a_copy_saved_anew_is_found_by_its_pixels(mvtec: Path) -> None:
    good = mvtec / "part" / "train" / "good"
    Image.open(good / "000.png").save(mvtec / "part" / "test" / "good" / "new.bmp")
    [text] = texts(mvtec)
    assert "train/good/000.png and test/good/new.bmp are the same image" in text


@pytest.mark.parametrize(("bits", "severity", "factor"), [(10, "error", 16), (12, "error", 16), (14, "warning", 4)])
def test_values_of_a_camera_that_are_not_scaled(mvtec: Path, bits: int, severity: str, factor: int) -> None:
    for path in (mvtec / "part").glob("t*/*/*.png"):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey << (bits - 8)).save(path)
    [text] = texts(mvtec, severity)
    assert "16-bit images that are darker" in text and f"multiply their pixels by {factor}" in text
    bright = mvtec / "part" / "test" / "good" / "000.png"
    Image.fromarray(np.full((16, 24), 60_000, np.uint16)).save(bright)
    assert texts(mvtec, "error") == texts(mvtec, "warning") == []


def test_one_image_under_two_labels(mvtec: Path) -> None:
    shutil.copy(mvtec / "part" / "test" / "crack" / "000.png", mvtec / "part" / "test" / "good" / "000.png")
    [text] = texts(mvtec)
    assert "labelled good and anomalous" in text


@pytest.mark.parametrize(("gone", "told"), [("train", "train/good"), ("test", "test"), ("test/good", "test/good")])
def test_empty_splits(mvtec: Path, gone: str, told: str) -> None:
    shutil.rmtree(mvtec / "part" / gone)
    shutil.rmtree(mvtec / "part" / "ground_truth")
    [text] = texts(mvtec)
    assert f"{mvtec / 'part' / told} has no image" in text


def test_black_mask_and_orientation_are_warnings(mvtec: Path) -> None:
    write_mask(mvtec / "part" / "ground_truth" / "crack" / "001.png", [])
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (24, 16)).save(mvtec / "part" / "train" / "good" / "turned.jpg", exif=exif)
    assert texts(mvtec) == []
    black, turned = sorted(texts(mvtec, "warning"), key=lambda t: "turned.jpg" in t)
    assert "001.png is all black" in black and "EXIF" in turned


def test_masks_of_good_images_may_be_black_only(mvtec: Path) -> None:
    write_mask(mvtec / "part" / "ground_truth" / "good" / "000_mask.png", [])
    assert texts(mvtec) == []
    write_mask(mvtec / "part" / "ground_truth" / "good" / "001_mask.png", [(0, 0, 2, 2)])
    assert len(texts(mvtec)) == 1


def test_broken_mask(mvtec: Path) -> None:
    (mvtec / "part" / "ground_truth" / "crack" / "001.png").write_bytes(b"")
    [text] = texts(mvtec)
    assert "001.png cannot be read" in text


def test_unmasked_category_is_sound(mvtec: Path) -> None:
    shutil.rmtree(mvtec / "part" / "ground_truth")
    assert check_category(read_category(dataset(mvtec), "part")) == []


def command(*words: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "harness.data", *words]
    return subprocess.run(run, capture_output=True, text=True, timeout=120)


def test_command_line(mvtec: Path) -> None:
    shutil.copytree(mvtec / "part", mvtec / "other")
    sound = command("check", "dataset=folder", f"dataset.root={mvtec}")
    assert sound.returncode == 0, sound.stderr
    assert sound.stdout == "Checked 14 images and 4 masks of 2 categories: 0 errors, 0 warnings.\n"
    (mvtec / "other" / "train" / "good" / "000.png").write_bytes(b"")
    bad = command("check", "dataset=folder", f"dataset.root={mvtec}", "category=other,absent")
    assert bad.returncode == 1
    assert "000.png cannot be read" in bad.stdout and "no category 'absent'" in bad.stdout
    assert bad.stdout.splitlines()[-1].endswith("of 2 categories: 2 errors, 0 warnings.")
    partial = command("check", "dataset=mvtec_ad", f"dataset.root={mvtec}", "category=part")
    assert partial.returncode == 0, partial.stdout + partial.stderr


def test_data_sets_in_a_folder_of_ones_own_are_checked(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my conf" / "dataset").mkdir(parents=True)
    (tmp_path / "my conf" / "dataset" / "mine.yaml").write_text(f"layout: mvtec\nroot: {mvtec}\n")
    assert main(["check", "--config-dir", str(tmp_path / "my conf"), "dataset=mine"]) == 0
    assert capsys.readouterr().out == "Checked 7 images and 2 masks of 1 category: 0 errors, 0 warnings.\n"


@pytest.mark.parametrize("words", [[], ["repair"], ["check", "dataset=nonsense"], ["check", "datset.root=x"]])
def test_command_line_misused(words: list[str]) -> None:
    result = command(*words)
    assert result.returncode == 2 and "Traceback" not in result.stderr


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images are not here")
@pytest.mark.parametrize(
    ("root", "name", "counts", "warnings"),
    # counts of the data's README: train, test good, test defective; four masks of MTD are empty in the original
    [
        ("mvtec_ad", "bottle", (209, 20, 63), 0),
        ("mvtec_ad", "screw", (320, 41, 119), 0),
        ("mtd", "magnetic_tile", (761, 191, 392), 4),
    ],
)
def test_real_images(root: str, name: str, counts: tuple[int, int, int], warnings: int) -> None:
    data = dataset(SHARED / root)
    assert name in list_categories(data)
    category = read_category(data, name)
    defective = sum(s.label for s in category.test)
    assert (len(category.train), len(category.test) - defective, defective) == counts
    assert [p.severity for p in check_category(category)] == ["warning"] * warnings

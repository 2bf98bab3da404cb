import os
import shutil
from pathlib import Path

from disk_layouts import dataset, write_image, write_mask

from harness.data import Category, fingerprint, read_category


def part(root: Path) -> Category:
    return read_category(dataset(root), "part")


def test_same_content_elsewhere_has_the_same_fingerprint(mvtec: Path, tmp_path: Path) -> None:
    shutil.copytree(mvtec, tmp_path / "elsewhere" / "renamed")
    first, second = part(mvtec), part(tmp_path / "elsewhere" / "renamed")
    shuffled = Category(first.dataset, first.name, first.root, first.samples[::-1], first.defects)
    assert fingerprint(first) == fingerprint(second) == fingerprint(shuffled)
    assert len(fingerprint(first)) == 24 and set(fingerprint(first)) <= set("0123456789abcdef")


def test_every_content_counts(mvtec: Path) -> None:
    seen = [fingerprint(part(mvtec))]
    write_image(mvtec / "part" / "train" / "good" / "000.png", seed=99)
    seen.append(fingerprint(part(mvtec)))
    write_mask(mvtec / "part" / "ground_truth" / "crack" / "001.png", [(1, 1, 2, 2)])
    seen.append(fingerprint(part(mvtec)))
    os.rename(mvtec / "part" / "test" / "good" / "000.png", mvtec / "part" / "test" / "good" / "009.png")
    seen.append(fingerprint(part(mvtec)))
    (mvtec / "part" / "train" / "good" / "002.png").rename(mvtec / "part" / "test" / "good" / "002.png")
    seen.append(fingerprint(part(mvtec)))
    (mvtec / "part" / "defects_config.json").write_text(
        '[{"defect_name": "a", "pixel_value": 255, "saturation_threshold": 0.5, "relative_saturation": true}]'
    )
    seen.append(fingerprint(part(mvtec)))
    assert len(set(seen)) == len(seen)


def test_a_mask_that_is_one_region_is_not_a_mask_of_components(mvtec: Path) -> None:
    before = fingerprint(part(mvtec))
    mask = next((mvtec / "part" / "ground_truth").rglob("*.png"))
    folder = mask.parent / mask.stem.removesuffix("_mask")
    folder.mkdir()
    mask.rename(folder / "000.png")
    assert fingerprint(part(mvtec)) != before

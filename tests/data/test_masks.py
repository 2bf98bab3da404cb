import json
from pathlib import Path

import numpy as np
import pytest
from disk_layouts import dataset, write_image, write_mask
from PIL import Image

from harness.data import Category, read_category
from harness.data.masks import load_image, load_mask, load_mask_values, load_regions
from harness.data.records import DefectConfig
from harness.errors import DataError


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "1", "LA"])
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (5, 3), (255, 255, 255)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    pixels = load_image(path)
    assert pixels.shape == (3, 5, 3) and pixels.dtype == np.uint8
    assert (pixels == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_float_images_and_broken_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="floating-point"):
        load_image(tmp_path / "f.tif")
    whole = write_image(tmp_path / "a.png").read_bytes()
    for name, data in (("cut.png", whole[: len(whole) // 2]), ("text.jpg", b"hello"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=f"{name} cannot be read as an image"):
            load_image(tmp_path / name)


def test_several_frames_are_refused_but_the_previews_of_a_telephone(tmp_path: Path) -> None:
    shown = [Image.new("RGB", (5, 3), (0, 80 * i, 0)) for i in range(3)]
    for name, kind in (("a.png", "PNG"), ("b.png", "GIF"), ("c.tif", "TIFF"), ("d.webp", "WEBP")):
        shown[0].save(tmp_path / name, kind, save_all=True, append_images=shown[1:])
        with pytest.raises(DataError, match=f"{name} holds several frames or pages"):
            load_image(tmp_path / name)
    shown[0].save(tmp_path / "e.jpg", "MPO", save_all=True, append_images=shown[1:])
    assert load_image(tmp_path / "e.jpg").shape == (3, 5, 3)


def test_whole_numbers_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    for value, fits in ((65_535, True), (65_536, False), (-1, False)):
        Image.fromarray(np.array([[0, value]], dtype=np.int32)).save(tmp_path / "a.tif")
        if fits:
            assert load_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 255]
        else:
            with pytest.raises(DataError, match="beyond 16 bits: save it as PNG"):
                load_image(tmp_path / "a.tif")


def test_a_mask_with_transparency_says_nothing(tmp_path: Path) -> None:
    """Editors leave any colour under what is transparent: white, mostly."""
    pixels = np.full((3, 5, 4), 255, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    assert (load_mask_values(tmp_path / "opaque.png") == 255).all()
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).convert("P").save(tmp_path / "b.png", transparency=0)
    for name in ("a.png", "b.png"):
        with pytest.raises(DataError, match="save the mask without transparency"):
            load_mask_values(tmp_path / name)


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").shape == (4, 8, 3)


def test_single_mask_falls_into_eight_connected_components(mvtec: Path) -> None:
    path = mvtec / "part" / "ground_truth" / "crack" / "001.png"
    write_mask(path, [(0, 0, 3, 3), (3, 3, 5, 5), (10, 10, 14, 12)])  # the first two touch at a corner
    category = read_category(dataset(mvtec), "part")
    regions = load_regions(category, category.test[1])
    assert [(int(mask.sum()), area) for mask, area in regions] == [(13, 13.0), (8, 8.0)]
    union = load_mask(category, category.test[1])
    assert (union == np.logical_or.reduce([mask for mask, _ in regions])).all()


def test_good_and_black_have_no_region(mvtec: Path) -> None:
    write_mask(mvtec / "part" / "ground_truth" / "crack" / "001.png", [])
    category = read_category(dataset(mvtec), "part")
    assert load_regions(category, category.test[1]) == load_regions(category, category.test[2]) == []
    assert load_mask(category, category.test[2]).shape == (16, 24) and not load_mask(category, category.test[2]).any()


@pytest.mark.parametrize(
    ("threshold", "relative", "area", "expected"),
    # get_saturation_area of MVTec LOCO's evaluation code: int(threshold * area), or min(threshold, area)
    [(0.7, True, 100, 70), (0.7, True, 11, 7), (1.0, True, 9, 9), (60, False, 100, 60), (60, False, 40, 40)],
)
def test_saturation_area_as_in_the_official_code(threshold: float, relative: bool, area: int, expected: float) -> None:
    assert DefectConfig("d", 1, threshold, relative).saturation_area(area) == expected


def test_saturation_area_is_never_zero() -> None:
    assert DefectConfig("d", 1, 0.5, True).saturation_area(1) == 1


def configured(root: Path) -> Category:
    """AutoVI's layout: two files of one image, one of them with two pixel values."""
    part = root / "part"
    write_image(part / "train" / "good" / "0.png", 1)
    write_image(part / "test" / "missing" / "0.png", 2)
    folder = part / "ground_truth" / "missing" / "0"
    write_mask(folder / "0000.png", [(0, 0, 5, 4)], 3)
    write_mask(folder / "0001.png", [(8, 8, 12, 12)], 7)
    two = load_mask_values(folder / "0001.png").astype(np.uint8)
    two[0, 20:24] = 3
    Image.fromarray(two).save(folder / "0001.png")
    entry = {"defect_name": "m", "pixel_value": 3, "saturation_threshold": 0.7, "relative_saturation": True}
    other = entry | {"pixel_value": 7, "saturation_threshold": 10, "relative_saturation": False}
    (part / "defects_config.json").write_text(json.dumps([entry, other]))
    return read_category(dataset(root, "autovi"), "part")


def test_each_pixel_value_of_each_file_is_a_region(tmp_path: Path) -> None:
    category = configured(tmp_path)
    regions = load_regions(category, category.test[0])
    assert [(int(mask.sum()), area) for mask, area in regions] == [(20, 14.0), (4, 2.0), (16, 10.0)]
    assert load_mask(category, category.test[0]).sum() == 40


def test_unknown_pixel_value_is_named(tmp_path: Path) -> None:
    category = configured(tmp_path)
    write_mask(category.test[0].masks[0], [(0, 0, 2, 2)], 9)
    with pytest.raises(DataError, match=r"0000.png has pixel value 9.*\(it lists 3, 7\)"):
        load_regions(category, category.test[0])


def test_region_files_without_configuration_are_whole_regions(tmp_path: Path) -> None:
    configured(tmp_path)
    (tmp_path / "part" / "defects_config.json").unlink()
    category = read_category(dataset(tmp_path), "part")
    assert [area for _, area in load_regions(category, category.test[0])] == [20.0, 20.0]


def test_masks_of_one_image_must_agree_in_size(tmp_path: Path) -> None:
    category = configured(tmp_path)
    write_mask(category.test[0].masks[1], [(0, 0, 2, 2)], 7, size=(10, 10))
    for load in (load_regions, load_mask):
        with pytest.raises(DataError, match=r"0001.png is 10×10"):
            load(category, category.test[0])


def test_mask_formats(tmp_path: Path) -> None:
    expected = np.zeros((16, 16), dtype=bool)
    expected[4:12, 4:12] = True
    grey = Image.fromarray(expected.astype(np.uint8) * 255)
    for name, image in (
        ("l.png", grey),
        ("one.png", grey.convert("1")),
        ("rgb.bmp", grey.convert("RGB")),
        ("rgba.png", grey.convert("RGBA")),
        ("p.png", grey.convert("P")),
        ("lossy.jpg", grey),
        ("zero_one.png", Image.fromarray(expected.astype(np.uint8))),
        ("sixteen.png", Image.fromarray(expected.astype(np.uint16) * 65535)),
    ):
        image.save(tmp_path / name)
        assert ((load_mask_values(tmp_path / name) > 0) == expected).all(), name

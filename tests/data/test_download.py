import csv
import hashlib
import zipfile
from pathlib import Path

import pytest
from anomalib.data.datamodules.image.visa import VISA_CATEGORIES
from anomalib.data.utils.download import DownloadInfo
from disk_layouts import dataset, write_image, write_mask

from harness.data import read_category
from harness.data.download import STAGING, _fetch
from harness.errors import DataError


@pytest.mark.parametrize(
    ("name", "layout", "archive"),
    [
        ("mvtec_ad", "mvtec", "mvtec_anomaly_detection.tar.xz"),
        ("mvtec_loco", "loco", "mvtec_loco_anomaly_detection.tar.xz"),
        ("visa", "visa", "VisA_20220922.tar"),
        ("autovi", "autovi", "pipe_clip.zip"),
    ],
)
def test_a_broken_archive_is_refused_with_the_remedy(tmp_path: Path, name: str, layout: str, archive: str) -> None:
    """As an interrupted download leaves it; anomalib alone would take it as it is."""
    (tmp_path / STAGING).mkdir()
    (tmp_path / STAGING / archive).write_bytes(b"half an archive")
    wanted = dataset(tmp_path, layout, name=name, download=True)
    with pytest.raises(DataError, match=rf"download of {name} failed.*hash.*{STAGING}.*under {tmp_path} by hand"):
        read_category(wanted, "pipe_clip")


def test_data_at_hand_are_not_downloaded(mvtec: Path) -> None:
    assert read_category(dataset(mvtec, name="mvtec_ad", download=True), "part").masked
    assert not (mvtec / STAGING).exists()


def test_sets_without_a_downloader(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no download for dataset.name=None.*put the data under"):
        read_category(dataset(tmp_path, download=True), "part")
    with pytest.raises(DataError, match="no category 'part', only engine_wiring"):
        read_category(dataset(tmp_path, "autovi", name="autovi", download=True), "part")


def test_a_verified_archive_is_extracted_aside_and_moved(tmp_path: Path) -> None:
    staging = tmp_path / STAGING
    image = write_image(tmp_path / "a.png")
    staging.mkdir()
    with zipfile.ZipFile(staging / "set.zip", "w") as archive:
        archive.write(image, "part/train/good/a.png")
    digest = hashlib.sha256((staging / "set.zip").read_bytes()).hexdigest()
    _fetch(tmp_path, DownloadInfo("set", "https://nowhere.invalid/set.zip", digest))
    assert [s.name for s in read_category(dataset(tmp_path), "part").samples] == ["train/good/a.png"]
    assert not list(staging.iterdir())


def test_raw_visa_gets_its_official_split(tmp_path: Path) -> None:
    """A raw archive extracted by hand: anomalib's split code, no network."""
    rows = []
    for name in VISA_CATEGORIES:
        for i, (split, label) in enumerate((("train", "normal"), ("test", "normal"), ("test", "anomaly"))):
            image = f"{name}/Data/Images/{label}/{i}.JPG"
            write_image(tmp_path / image, seed=i)
            mask = f"{name}/Data/Masks/Anomaly/{i}.png" if label == "anomaly" else ""
            if mask:
                write_mask(tmp_path / mask, [(1, 1, 5, 5)], value=2)
            rows.append((name, split, label, image, mask))
    (tmp_path / "split_csv").mkdir()
    with (tmp_path / "split_csv" / "1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])
    category = read_category(dataset(tmp_path, "visa", name="visa", download=True), "candle")
    assert [s.name for s in category.samples] == ["train/good/0.JPG", "test/bad/2.JPG", "test/good/1.JPG"]
    assert category.masked and category.root == tmp_path / "visa_pytorch" / "candle"

import csv
import hashlib
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from anomalib.data.datamodules.image.visa import VISA_CATEGORIES
from anomalib.data.datasets.image import autovi
from anomalib.data.utils.download import DownloadInfo
from disk_layouts import dataset, write_image, write_mask

from harness.data import list_categories, read_category
from harness.data.archives import unpack
from harness.data.download import FETCHERS, STAGING, _fetch, ensure
from harness.data.looking import AwaitedError, looking
from harness.errors import DataError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Put a category of AutoVI on a server of this machine, which anomalib takes for the publisher's."""
    (tmp_path / "web").mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def put(name: str) -> Path:
            image, path = write_image(tmp_path / "a.png"), tmp_path / "web" / f"{name}.zip"
            with zipfile.ZipFile(path, "w") as archive:
                archive.write(image, f"{name}/train/good/a.png")
                archive.write(image, f"{name}/train/good/b.png")
            monkeypatch.setitem(autovi.DOWNLOAD_URLS, name, f"http://127.0.0.1:{server.server_port}/{name}.zip")
            monkeypatch.setitem(autovi.DOWNLOAD_HASHES, name, hashlib.sha256(path.read_bytes()).hexdigest())
            return path

        yield put
        server.shutdown()
        thread.join()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_download_has_half_unpacked_is_never_taken_for_whole(
    tmp_path: Path, publish: Callable[[str], Path]
) -> None:
    root = tmp_path / "data"
    wanted = dataset(root, "autovi", name="autovi", download=True)
    for place in (root / STAGING / "engine_wiring", root / STAGING / "unpacked-x" / "engine_wiring"):
        write_image(place / "train" / "good" / "a.png")
    (root / STAGING / "engine_wiring.zip").write_bytes(publish("engine_wiring").read_bytes())
    publish("pipe_clip")
    ensure(wanted, root, "pipe_clip")
    assert names(root) == {STAGING, "pipe_clip"}
    assert names(root / "pipe_clip" / "train" / "good") == {"a.png", "b.png"}
    ensure(wanted, root, "engine_wiring")  # its archive is whole
    assert names(root / "engine_wiring" / "train" / "good") == {"a.png", "b.png"}
    assert not list((root / STAGING).glob("*.zip*")) and not list((root / STAGING).glob("unpacked-*"))


def test_a_partial_archive_is_fetched_anew_and_a_wrong_one_refused(
    tmp_path: Path, publish: Callable[[str], Path]
) -> None:
    root = tmp_path / "data"
    wanted = dataset(root, "autovi", name="autovi", download=True)
    published = publish("pipe_clip")
    whole = published.read_bytes()
    published.write_bytes(whole[:-9])
    (root / STAGING).mkdir(parents=True)
    (root / STAGING / "pipe_clip.zip").write_bytes(whole[:9])  # of an interrupted download
    with pytest.raises(DataError, match=rf"download of autovi failed.*hash.*try again.*under {root} by hand"):
        read_category(wanted, "pipe_clip")
    assert names(root / STAGING) <= {"lock"}
    published.write_bytes(whole)
    (root / STAGING / "pipe_clip.zip").write_bytes(whole[:9])
    (root / STAGING / "pipe_clip.zip.part").write_bytes(whole[:5])
    ensure(wanted, root, "pipe_clip")
    assert (root / "pipe_clip" / "train").is_dir()


@pytest.mark.parametrize("kind", ["zip", "lzma.zip", "tar.xz", "tar.gz", "tar.bz2"])
def test_an_archive_with_flipped_bytes_is_damaged(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(np.random.default_rng(0).integers(0, 5, 50_000, np.uint8).tobytes())
    archive = tmp_path / f"a.{kind}"
    if kind.endswith("zip"):
        method = zipfile.ZIP_LZMA if kind == "lzma.zip" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(archive, "w", method) as zipped:
            zipped.write(tmp_path / "a", "a")
    else:
        with tarfile.open(archive, f"w:{kind.removeprefix('tar.')}") as taped:  # type: ignore[call-overload]
            taped.add(tmp_path / "a", "a")
    data = bytearray(archive.read_bytes())
    for place in range(len(data) // 3, len(data) // 2):
        data[place] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DataError, match=rf"a.{kind} is damaged .*: fetch it anew"):
        unpack(archive, tmp_path / "into")


def forbidden(*_: object) -> None:
    raise AssertionError("looking has downloaded")


def test_looking_downloads_nothing_and_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FETCHERS, "autovi", forbidden)
    wanted = dataset(tmp_path / "a", "autovi", name="autovi", download=True)
    with looking():
        with pytest.raises(AwaitedError, match=rf"images of autovi will be downloaded into {tmp_path}/a by"):
            read_category(wanted, "pipe_clip")
        with pytest.raises(DataError, match=r"There is no download for dataset\.name=mine"):
            read_category(dataset(tmp_path, name="mine", download=True), "pipe_clip")
        toys = dataset(tmp_path / "toy", "toy", name="toy")
        assert read_category(toys, "granite_tile").samples
        assert list_categories(toys) == ["bolted_plate", "conveyor_rail", "granite_tile", "vin_label"]
    assert not list(tmp_path.iterdir())


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

"""Weights and auxiliary images: found in one place, named by content, refused with a remedy, never run as code."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import save_file

from harness.errors import WeightsError
from harness.models.weights import ITEMS, find, load_state, stand_ins
from harness.models.weights.identity import weights_id
from harness.models.weights.items import item_id
from harness.schema import WeightsConfig

FOLDERS = ("imagenette", "dtd")


def config(tmp_path: Path, size: str = "small", **weights: Any) -> DictConfig:
    method = {"model": "harness.models.padim.Padim", "backbone": None, "model_size": size}
    return OmegaConf.create(
        {
            "method": method,
            "backbone": {"name": "resnet18", "weights": "random"},
            "weights": OmegaConf.structured(WeightsConfig(**weights)),
            "tracking": {"directory": str(tmp_path / "runs")},
        }
    )


def put_images(folder: Path, value: int = 0, count: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(np.full((8, 8, 3), value + index, np.uint8)).save(folder / f"{index}.png")
    return folder


def put_file(path: Path, value: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.full((3,), value)}, path)
    return path


@pytest.mark.parametrize("name", ITEMS)
def test_a_missing_item_says_what_it_is_where_it_was_looked_for_and_how_to_get_it(name: str, tmp_path: Path) -> None:
    for act in (find, item_id):
        with pytest.raises(WeightsError) as caught:
            act(name, config(tmp_path, dir=str(tmp_path)))
        text = str(caught.value)
        assert name in text and str(tmp_path / ITEMS[name].names[0].format(size="small")) in text
        assert f"weights.{name}=PATH" in text and f"weights.{name}=hub" in text and "\n" not in text
    with pytest.raises(WeightsError, match=r"nowhere, because weights\.dir is not set"):
        find(name, config(tmp_path))
    with pytest.raises(WeightsError, match="elsewhere"):
        find(name, config(tmp_path, **{name: str(tmp_path / "elsewhere")}))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("efficient_ad_teacher", "efficient_ad_teacher_medium.pth"),
        ("efficient_ad_teacher", "efficientad_pretrained_weights/pretrained_teacher_medium.pth"),
        ("imagenette", "imagenette2"),
        ("imagenette", "imagenette"),
        ("dsr_dictionary", "vq_model_pretrained_128_4096.pckl"),
        ("dsr_dictionary", "dsr_dictionary.pth"),
        ("dtd", "dtd"),
    ],
)
def test_an_item_is_found_below_the_one_folder_or_at_its_own_path(name: str, place: str, tmp_path: Path) -> None:
    put = put_images if name in FOLDERS else put_file
    path = put(tmp_path / "all" / place)
    below = config(tmp_path, size="medium", dir=str(tmp_path / "all"))
    own = config(tmp_path, size="medium", dir=str(tmp_path), **{name: str(path)})
    assert find(name, below) == find(name, own) == path
    assert item_id(name, below) == item_id(name, own)
    assert item_id(name, below).startswith(f"{name}:folder-" if name in FOLDERS else f"{name}:file-")


def test_the_teacher_is_that_of_the_models_size(tmp_path: Path) -> None:
    put_file(tmp_path / "pretrained_teacher_small.pth")
    assert find("efficient_ad_teacher", config(tmp_path, dir=str(tmp_path))).name == "pretrained_teacher_small.pth"
    with pytest.raises(WeightsError, match="EfficientAD's medium teacher"):
        find("efficient_ad_teacher", config(tmp_path, size="medium", dir=str(tmp_path)))


def test_a_folder_is_named_by_the_content_of_its_images_wherever_it_lies(tmp_path: Path) -> None:
    first, same, other, renamed = (tmp_path / name / "dtd" for name in "abcd")
    for folder in (first, same, renamed):
        put_images(folder / "images")
    put_images(other / "images", value=9)
    (same / "readme.txt").write_text("no image")
    (renamed / "images/0.png").rename(renamed / "images/5.png")
    ids = [item_id("dtd", config(tmp_path, dtd=str(folder))) for folder in (first, same, other, renamed)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_without_images_is_refused(name: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "labels.txt").write_text("banded")
    for act in (find, item_id):
        with pytest.raises(WeightsError, match=r"no image in .*empty"):
            act(name, config(tmp_path, **{name: str(empty)}))


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "run"))


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy torch"])
def test_a_file_with_code_is_refused_and_nothing_of_it_runs(form: str, tmp_path: Path) -> None:
    proof, path = tmp_path / "proof", tmp_path / "vq_model_pretrained_128_4096.pckl"
    payload = {"weight": torch.zeros(1), "more": Malicious(proof)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(WeightsError, match="not tensors alone"):
        find("dsr_dictionary", config(tmp_path, dir=str(tmp_path)))
    assert not proof.exists()
    with path.open("rb") as file, contextlib.suppress(pickle.UnpicklingError):  # the file would have done it
        torch.load(file, weights_only=False) if form != "pickle" else pickle.load(file)
    assert proof.exists()


def test_state_dicts_are_loaded_and_anything_else_is_refused(tmp_path: Path) -> None:
    state = {"weight": torch.arange(3.0)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pckl")
    for name in ("a.safetensors", "a.pckl"):
        assert torch.equal(load_state(tmp_path / name)["weight"], state["weight"])
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    (tmp_path / "text.pth").write_text("text")
    for name in ("tensor.pth", "text.pth"):
        with pytest.raises(WeightsError, match=name):
            load_state(tmp_path / name)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_the_stand_in_of_a_teacher_fits_efficient_ad(size: str, tmp_path: Path) -> None:
    from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel

    given = config(tmp_path, size=size, efficient_ad_teacher="random")
    model = EfficientAdModel(teacher_out_channels=384, model_size=size)
    model.teacher.load_state_dict(load_state(find("efficient_ad_teacher", given)))
    assert item_id("efficient_ad_teacher", given) == "efficient_ad_teacher:random-0"


def test_the_stand_in_of_a_dictionary_fits_dsr(tmp_path: Path) -> None:
    from anomalib.models.image.dsr.torch_model import DsrModel

    path = find("dsr_dictionary", config(tmp_path, dsr_dictionary="random"))
    DsrModel().load_pretrained_discrete_model_weights(path)


def test_drawn_textures_are_read_as_real_ones(tmp_path: Path) -> None:
    from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
    from torchvision.datasets import ImageFolder

    given = config(tmp_path, imagenette="random", dtd="random")
    images = ImageFolder(find("imagenette", given))
    assert len(images.classes) == stand_ins.CLASSES and len(images) == stand_ins.CLASSES * stand_ins.TEXTURES
    pixels = np.stack([np.asarray(image) for image, _ in images])
    assert pixels.std(axis=(1, 2)).min() > 15 and pixels.shape[1:] == (stand_ins.SIDE, stand_ins.SIDE, 3)
    textures = PerlinAnomalyGenerator(find("dtd", given)).anomaly_source_paths
    assert len(textures) == stand_ins.CLASSES * stand_ins.TEXTURES


@pytest.mark.parametrize("name", ITEMS)
def test_stand_ins_are_the_same_everywhere_and_written_once(name: str, tmp_path: Path) -> None:
    def content(path: Path) -> list[bytes]:
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        if name in FOLDERS:
            return [file.read_bytes() for file in files]
        return [tensor.numpy().tobytes() for tensor in load_state(path).values()]

    before = torch.get_rng_state()
    torch.manual_seed(1)
    first = find(name, config(tmp_path / "a", **{name: "random"}))
    torch.manual_seed(2)
    assert content(first) == content(find(name, config(tmp_path / "b", **{name: "random"})))
    changed = first.stat().st_mtime_ns
    assert find(name, config(tmp_path / "a", **{name: "random"})).stat().st_mtime_ns == changed
    assert [path.name for path in first.parent.iterdir()] == [first.name]  # nothing half done is left
    torch.set_rng_state(before)


def test_identity_names_backbones_and_items_without_importing_torch(tmp_path: Path) -> None:
    put_images(tmp_path / "dtd")
    put_file(tmp_path / "dsr_dictionary.pth")
    code = (
        "import sys\n"
        "from omegaconf import OmegaConf\n"
        "from harness.models.weights.identity import weights_id\n"
        "given = OmegaConf.load(sys.argv[1])\n"
        "print(weights_id(given))\n"
        "assert 'torch' not in sys.modules\n"
    )
    given = config(tmp_path, dir=str(tmp_path), imagenette="random")
    given.method.update({"backbone": "resnet18", "backbones": ["vgg11", "resnet34"], "needs": [*FOLDERS]})
    given.method.needs.append("dsr_dictionary")
    OmegaConf.save(given, tmp_path / "config.yaml")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "config.yaml")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    parts = done.stdout.strip().split(" + ")
    assert parts[:4] == ["resnet18:random-0", "vgg11:random-0", "resnet34:random-0", "imagenette:random-0"]
    assert parts[4].startswith("dtd:folder-") and parts[5].startswith("dsr_dictionary:file-") and len(parts) == 6
    assert weights_id(given) == done.stdout.strip()


def test_a_method_that_loads_nothing_says_none(tmp_path: Path) -> None:
    assert weights_id(config(tmp_path)) == "none"  # whatever the toy profile's backbone is called


@pytest.fixture
def website(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that is served over HTTP, and its address."""
    folder = tmp_path / "website"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def published(website: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, damaged: bool) -> None:
    """Publish a dictionary as anomalib's release does, at an address of our own."""
    from anomalib.data.utils import DownloadInfo

    folder, address = website
    put_file(folder / "weights.pckl", 3.0)
    with zipfile.ZipFile(folder / "dsr.zip", "w") as archive:
        archive.write(folder / "weights.pckl", "vq_model_pretrained_128_4096.pckl")
    digest = hashlib.sha256((folder / "dsr.zip").read_bytes()).hexdigest()
    info = DownloadInfo("dsr", f"{address}/dsr.zip", digest[::-1] if damaged else digest)
    monkeypatch.setattr(ITEMS["dsr_dictionary"].download, info)


def test_hub_downloads_into_the_folder_once(
    website: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published(website, monkeypatch, damaged=False)
    given = config(tmp_path, dir=str(tmp_path / "weights"), dsr_dictionary="hub")
    path = find("dsr_dictionary", given)
    assert path == tmp_path / "weights/vq_model_pretrained_128_4096.pckl"
    assert load_state(path)["weight"].tolist() == [3.0] * 3
    (website[0] / "dsr.zip").unlink()
    assert find("dsr_dictionary", given) == path
    offline = config(tmp_path, dir=str(tmp_path / "weights"))
    assert item_id("dsr_dictionary", given) == item_id("dsr_dictionary", offline)


def test_a_download_with_another_hash_is_refused_and_not_kept(
    website: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published(website, monkeypatch, damaged=True)
    with pytest.raises(WeightsError, match=r"cannot be downloaded .*does not match the required hash"):
        find("dsr_dictionary", config(tmp_path, dir=str(tmp_path / "weights"), dsr_dictionary="hub"))
    kept = [path for path in (tmp_path / "weights").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert not kept


def test_a_hub_out_of_reach_is_an_error_that_tells_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(WeightsError, match=r"dtd.* cannot be downloaded .*weights\.dtd=PATH"):
        find("dtd", config(tmp_path, dir=str(tmp_path / "weights"), dtd="hub"))
    with pytest.raises(WeightsError, match=r"give weights\.dir=FOLDER"):
        find("dtd", config(tmp_path, dtd="hub"))


def test_an_unknown_need_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"needs=cifar is nothing known; a method may need .*dtd"):
        find("cifar", config(tmp_path))


def test_stand_ins_of_several_processes_are_one(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom harness.models.weights import stand_ins\n"
        "print(stand_ins.create('dtd', 'small', Path(sys.argv[1])))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert {process.communicate(timeout=120)[0].strip() for process in processes} == {str(tmp_path / "dtd-0")}
    assert os.listdir(tmp_path) == ["dtd-0"]

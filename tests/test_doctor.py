"""The doctor on folders, stores, servers and hubs that are as they should be, and on broken ones."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run
from huggingface_hub import constants
from mlflow.store.db.utils import _get_latest_schema_revision
from PIL import Image

from harness.data.download import FETCHERS
from harness.doctor import checks, machine
from harness.doctor.__main__ import main
from harness.doctor.store import schema_versions

Doctor = Callable[..., tuple[int, dict[str, list[str]]]]
OFFLINE = "http://127.0.0.1:9"  # where nobody answers


@pytest.fixture
def doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_root: Path
) -> Doctor:
    """Ask the doctor in an empty folder; returns the exit code, and the lines by `state subject`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", OFFLINE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def call(*arguments: str) -> tuple[int, dict[str, list[str]]]:
        data = [] if any(a.startswith("dataset") for a in arguments) else [f"dataset.root={toy_root}"]
        code = main([*arguments, *data])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        found: dict[str, list[str]] = {}
        for line in shown.out.split("\n\n")[0].splitlines():
            state, subject, text = line.split(maxsplit=2)
            found.setdefault(f"{state} {subject.rstrip(':')}", []).append(text)
        assert (code == 1) == any(line.startswith("error ") for line in found)
        return code, found

    return call


@contextmanager
def serving(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    """Serve some paths on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, text = answers.get(self.path, (404, ""))
            self.send_response(code)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(text.encode())

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for folder, count in (("train/good", 3), ("test/good", 2), ("test/crack", 2)):
        place = tmp_path / "photos" / "gear" / folder
        place.mkdir(parents=True)
        for index in range(count):
            Image.fromarray(np.full((16, 16, 3), 20 * index, np.uint8)).save(place / f"{index}.png")
    return tmp_path / "photos"


def test_nothing_stops_the_default_run_and_nothing_is_made(run: Run, tmp_path: Path, toy_root: Path) -> None:
    done = run(f"dataset.root={toy_root}", module="harness.doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK       Weights:   resnet18: untrained" in done.stdout
    assert "OK       Store:     sqlite:///runs/mlflow.db is made by the first run" in done.stdout
    assert "\x1b" not in done.stdout and not done.stderr
    assert not list(tmp_path.iterdir())


def test_the_combination_that_is_asked_for_is_looked_at(doctor: Doctor, photos: Path) -> None:
    mine = ["dataset=folder", "dataset.root=photos"]
    found = doctor(
        *mine, "category=gear", "method=patchcore,padim", "backbone=toy", "launcher=local", "launcher.jobs=2"
    )[1]
    (told,) = found["OK Data"]
    assert told.startswith("photos: 1 of 1 categories can be read: gear 3 to train, 4 to test, 0 with masks")
    assert len(found["OK Settings"]) == 2
    assert "2 runs at once" in found.get("OK Cores", found.get("warning Cores", [""]))[0]
    assert doctor(*mine, "category=all", "backbone=toy")[0] == 0
    assert "give category=NAME of gear" in doctor(*mine, "backbone=toy")[1]["error Data"][0]
    assert "choose one of gear" in doctor(*mine, "backbone=toy", "category=nut")[1]["error Data"][0]
    for image in (photos / "gear" / "train" / "good").iterdir():
        image.unlink()
    assert "train/good has no image" in doctor(*mine, "category=gear", "backbone=toy")[1]["error Data"][0]
    assert "does not exist" in doctor("dataset=folder", "dataset.root=nowhere")[1]["error Data"][0]


def test_weights_come_from_a_file_a_folder_the_hub_or_nowhere(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = ["method=patchcore", "backbone=resnet18", "backbone.name=resnet18.tv_in1k"]
    (refused,) = doctor(*hub)[1]["error Weights"]
    assert "does not answer" in refused and "backbone.weights=PATH" in refused
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in doctor(*hub)[1]["error Weights"][0]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving({"/timm/resnet18.tv_in1k/resolve/main/config.json": (200, "")}) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert "the hub answers" in doctor(*hub)[1]["OK Weights"][0]
        assert (
            "404" in doctor("method=padim", "backbone=resnet18", "backbone.name=resnet18.none")[1]["warning Weights"][0]
        )
    snapshot = tmp_path / "hub" / "models--timm--resnet18.tv_in1k" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    assert "downloaded before" in doctor(*hub)[1]["OK Weights"][0]
    (tmp_path / "mine.pth").touch()
    assert "mine.pth" in doctor(*hub, "backbone.weights=mine.pth")[1]["OK Weights"][0]
    assert "neither hub" in doctor(*hub, "backbone.weights=other.pth")[1]["error Weights"][0]
    assert "weights.dtd=PATH" in doctor("method=draem", "weights=default")[1]["error Weights"][0]


@pytest.mark.parametrize(
    ("device", "gpus", "driver", "cuda", "state"),
    [
        ("auto", 0, None, None, "OK"),
        ("auto", 2, "12.8", "12.6", "OK"),
        ("cuda", 1, "13.0", "12.6", "OK"),
        ("cpu", 1, "11.0", None, "OK"),
        ("auto", 1, "12.8", None, "warning"),
        ("cuda", 1, "12.8", None, "error"),
        ("cuda", 0, None, "12.6", "error"),
        ("auto", 1, "11.8", "12.6", "warning"),
        ("cuda", 1, "11.8", "12.6", "error"),
    ],
)
def test_gpu_driver_and_torch_must_fit(device: str, gpus: int, driver: str, cuda: str, state: str) -> None:
    assert [finding.state for finding in machine.gpu(device, gpus, driver, cuda)] == [state]


def test_torch_is_read_from_its_files() -> None:
    import torch

    assert machine.torch_build() == (torch.__version__.partition("+")[0], torch.version.cuda) or (
        machine.torch_build() == (torch.__version__, torch.version.cuda)
    )


def test_stores_of_other_versions_and_no_stores_are_told_apart(doctor: Doctor, tmp_path: Path) -> None:
    known, newest = schema_versions()
    assert newest == _get_latest_schema_revision()
    place = tmp_path / "runs"
    place.mkdir()
    for version, remedy in (("0123456789ab", "upgrade mlflow"), (min(known - {newest}), "mlflow db upgrade")):
        (place / "mlflow.db").unlink(missing_ok=True)
        with closing(sqlite3.connect(place / "mlflow.db")) as store:
            store.execute("CREATE TABLE alembic_version (version_num TEXT)")
            store.execute("INSERT INTO alembic_version VALUES (?)", [version])
            store.commit()
        assert remedy in doctor()[1]["error Store"][0]
    (place / "mlflow.db").write_text("no database at all")
    assert "is no MLflow store" in doctor()[1]["error Store"][0]
    with serving({"/version": (200, "3.17.2")}) as address:
        assert "MLflow 3.17.2 answers" in doctor(f"tracking.uri={address}")[1]["OK Server"][0]
    secret = doctor("tracking.uri=http://me:secret@127.0.0.1:9")[1]["error Server"][0]
    assert "does not answer" in secret and "secret" not in secret


def test_room_and_permission(doctor: Doctor, tmp_path: Path) -> None:
    states = [next(machine.room(free, tmp_path)).state for free in (2**20, 2**30, 2**40)]
    assert states == ["error", "warning", "OK"]
    (tmp_path / "file").touch()
    for place in ("/proc/runs", "file/runs"):
        assert "cannot be written" in doctor(f"tracking.directory={place}")[1]["error Disk"][0]


def test_a_mistake_is_a_line_and_the_machine_is_looked_at_all_the_same(doctor: Doctor) -> None:
    for arguments, culprit in [
        (["--config-dir=nowhere"], "There is no folder nowhere: check --config-dir."),
        (["method=nope"], "method=nope"),
        (["method.taau=1"], "method.taau"),
        (["nonsense"], "nonsense"),
        (["seed=["], "["),
        (["launcher=local,serial"], "launcher"),
    ]:
        found = doctor(*arguments)[1]
        assert culprit in found["error Settings"][0]
        assert "OK Launcher" in found
    assert "is supervised" in doctor("method=auto_classifier", "protocol=one_class")[1]["error Settings"][0]


def test_what_stops_a_run_is_an_error_wherever_it_is_found(doctor: Doctor) -> None:
    code, found = doctor("launcher.jobs=0")
    assert code == 1
    assert found["error Cores"] == ["launcher.jobs=0 is not possible; give a whole number of at least 1, or null."]
    assert "ZeroDivision" not in str(doctor("trainer.threads=0", "launcher=local"))


def test_images_that_are_awaited_are_told_and_not_downloaded(
    doctor: Doctor, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object) -> None:
        raise AssertionError("the doctor has downloaded")

    monkeypatch.setitem(FETCHERS, "mvtec_ad", fetch)
    for root in ("nowhere", "photos"):
        set_ = ["dataset=mvtec_ad", "dataset.download=true", f"dataset.root={root}", "dataset.categories=[gear,nut]"]
        code, found = doctor(*set_, "category=nut", "backbone=toy")
        assert code == 0
        gear = "" if root == "photos" else "gear, "
        assert f"mvtec_ad: {gear}nut will be downloaded into {root} by the first run" in found["OK Data"][0]
    assert "1 of 2 categories can be read: gear 3 to train" in found["OK Data"][1]
    assert not (tmp_path / "nowhere").exists() and [path.name for path in photos.iterdir()] == ["gear"]


def test_weights_of_another_network_or_a_description_alone_are_no_weights(doctor: Doctor, tmp_path: Path) -> None:
    hub = ["method=patchcore", "backbone=resnet18", "backbone.name=resnet18"]
    for repository, file in [
        ("resnet18d.ra2_in1k", "model.safetensors"),
        ("resnet18.a1_in1k", "config.json"),
        ("resnet18", "model.safetensors"),
    ]:
        place = tmp_path / "hub" / f"models--timm--{repository}" / "snapshots" / "1"
        place.mkdir(parents=True)
        (place / file).touch()
        assert "does not answer" in doctor(*hub)[1]["error Weights"][0]
    (tmp_path / "hub" / "models--timm--resnet18.a1_in1k" / "snapshots" / "1" / "pytorch_model.bin").touch()
    assert doctor(*hub)[1]["OK Weights"] == ["resnet18: downloaded before"]


def test_a_network_without_a_tag_is_asked_for_where_timm_has_it(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving({"/timm/resnet18.a1_in1k/resolve/main/config.json": (200, "")}) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        found = doctor("method=patchcore", "backbone=resnet18", "backbone.name=resnet18")[1]
    assert "the hub answers" in found["OK Weights"][0]


def test_a_check_that_fails_is_a_warning() -> None:
    def check() -> Iterator[checks.Finding]:
        yield checks.ok("A", "fine")
        raise RuntimeError("of its own")

    assert list(checks.asked("A", check)) == [
        checks.ok("A", "fine"),
        checks.warning("A", "could not be looked at (RuntimeError: of its own)."),
    ]

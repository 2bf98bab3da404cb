"""Nothing that is read is run, nothing that is unpacked leaves its folder, nothing that is secret is written down."""

from __future__ import annotations

import ast
import io
import json
import os
import shlex
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import PART, PHOTOS, sound
from commands import environment, run_command

import harness
from harness.data.archives import SMALL, unpack
from harness.errors import DataError
from harness.features.files import FileMap
from harness.uri import masked, scrubbed, shown_command

PACKAGE = Path(harness.__file__).parent
# What the package's own text may not hold

UNSAFE = {
    "eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load",
    "joblib.load", "cloudpickle.load", "cloudpickle.loads", "shelve.open", "marshal.loads", "pd.read_pickle",
    "pandas.read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "tarfile.open.extractall",
    "shutil.unpack_archive", "tempfile.mktemp",
}  # fmt: skip
KEYWORDS = {  # call -> argument -> value that makes it safe
    "torch.load": ("weights_only", True),
    "torch.hub.load_state_dict_from_url": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
}
SERVERS = {"http.server", "socketserver", "uvicorn", "flask", "fastapi", "xmlrpc.server", "asyncio"}
# A sweep's own message to the processes that it starts on other machines: no data, weights or store.
MESSAGES = {("launchers/away.py", "pickle.loads")}


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every part of the package's text, with its file."""
    files = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    return [(file, node) for file, path in files.items() for node in ast.walk(ast.parse(path.read_text("utf-8")))]


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call: file, what is called as it is written, and the call."""
    for file, node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield file, ast.unparse(node.func), node


def test_nothing_is_unpickled_or_run() -> None:
    found = {(file, name) for file, name, _ in calls() if name in UNSAFE}
    assert found == {(file, name) for file, name in MESSAGES if (PACKAGE / file).exists()}


def test_what_could_unpickle_is_told_not_to() -> None:
    seen = []
    for file, name, call in calls():
        if name in KEYWORDS:
            keyword, safe = KEYWORDS[name]
            given = {
                argument.arg: ast.literal_eval(argument.value) for argument in call.keywords if argument.arg == keyword
            }
            assert given == {keyword: safe}, f"{file}: {ast.unparse(call)}"
            seen.append(name)
    assert {"torch.load", "np.save"} <= set(seen)


def test_no_process_gets_a_shell_and_no_file_is_extracted_blindly() -> None:
    for file, name, call in calls():
        shell = [argument for argument in call.keywords if argument.arg == "shell"]
        assert not shell, f"{file}: {ast.unparse(call)}"
        assert name.rpartition(".")[2] not in ("extractall", "extract", "load_from_checkpoint"), f"{file}: {name}"


def test_nothing_listens() -> None:
    for file, node in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not SERVERS & set(names), file
    assert not [(file, name) for file, name, _ in calls() if name.rpartition(".")[2] in ("listen", "create_server")]


# What a run and a report do


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]], str]:
    """A run and its report, with credentials in the environment: their folder, what they did, and what they said."""
    here = tmp_path_factory.mktemp("audited")
    sound(here / PART)
    said = ""
    for module, typed in (("harness", PHOTOS), ("harness.report", "")):
        done = run_command(
            ["audit.log", module, *shlex.split(typed)], "audited_child", cwd=here, env=environment(**SECRETS) | TESTS
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    return here, [json.loads(line) for line in (here / "audit.log").read_text().splitlines()], said


TESTS = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "us3rname",
    "MLFLOW_TRACKING_PASSWORD": "pa55word",
    "MLFLOW_TRACKING_TOKEN": "t0ken",
    "PGPASSWORD": "p0stgres",
}


def test_a_run_opens_no_socket_and_looks_up_no_name_for_a_pickle(audited: tuple[Path, list[list[str]], str]) -> None:
    events = audited[1]
    assert {event for event, *_ in events} <= {"subprocess.Popen"}, events
    programs = {shlex.split(arguments[0])[0].rpartition("/")[2] for _, *arguments in events}
    assert programs <= {"git", "uname", "ldconfig", "gcc", "ld", "lscpu"}, programs


def test_credentials_of_the_environment_are_written_nowhere(audited: tuple[Path, list[list[str]], str]) -> None:
    here, _, said = audited
    texts = {"what is said": said.encode()} | {str(p): p.read_bytes() for p in here.rglob("*") if p.is_file()}
    assert any(name.endswith("environment.txt") for name in texts)
    assert any(name.endswith("provenance.json") for name in texts)
    assert any(name.endswith("mlflow.db") for name in texts)
    for secret in SECRETS.values():
        assert not [name for name, text in texts.items() if secret.encode() in text]


URIS = {
    "http://me:s3cret@127.0.0.1:9": "no server answers there",
    "http://me:s3cret/s3cret@s3cret@127.0.0.1:9": "write / as %2F, @ as %40",  # people do, and errors quote pieces
}


@pytest.mark.parametrize(
    ("typed", "module"),
    [
        ("", "harness"),
        ("-m", "harness"),
        ("-m ++", "harness"),
        ("--debug", "harness"),
        ("dry=true", "harness"),
        ("--debug", "harness.report"),
        ("experiment=toy", "harness.report"),
    ],
)
@pytest.mark.parametrize("uri", URIS)
def test_a_password_in_a_uri_gets_nowhere(tmp_path: Path, typed: str, module: str, uri: str) -> None:
    sound(tmp_path / PART)
    flags = [word for word in typed.split() if word.startswith("-")]
    others = [word for word in typed.split() if "=" in word]
    run = [*shlex.split(PHOTOS), "tracking.patience=0"] if module == "harness" else []
    given = f"{'++' if '++' in typed else ''}tracking.uri={uri}"
    done = run_command([*flags, *run, *others, given], module, cwd=tmp_path)
    assert done.returncode == 1
    texts = {"output": done.stdout, "errors": done.stderr}
    texts |= {str(path): path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()}
    assert not [name for name, text in texts.items() if "s3cret" in text]
    assert "http://***@127.0.0.1:9" in done.stderr
    assert URIS[uri] in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/a?token=secret", "http://***@host:5000/a"),
        ("postgresql://me:secret@host/db", "postgresql://***@host/db"),
        ("postgresql:///db?user=me&password=secret", "postgresql:///db?user=me&password=***"),
        ("http://secret@host", "http://***@host"),
        ("http://me:sec/ret@host", "http://***@host"),
        ("http://me:sec?ret@ho:st@host/a", "http://***@host/a"),
        ("http://me:sec ret@host/a", "http://***@host/a"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////data/line@plant/mlflow.db", "sqlite:////data/line@plant/mlflow.db"),
        ("runs", "runs"),
    ],
)
def test_uris_are_masked(uri: str, shown: str) -> None:
    assert masked(uri) == shown
    assert "secret" not in scrubbed(f"GET {uri}: refused")
    assert shown in shown_command("harness.report", [f"tracking.uri={uri}"])


def test_commands_are_masked_however_the_uri_is_given() -> None:
    for argument in ("++tracking.uri='http://me:secret@h'", "tracking={uri:http://me:secret@h}", "x=http://secret@h"):
        assert "secret" not in shown_command("harness", [argument])


# Archives


def zipped(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def taped(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 3) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size if kind == tarfile.REGTYPE else 0
    return made


def linked(path: Path) -> Path:
    """A zip with a symbolic link, as Unix stores it."""
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "../outside")
    return path


HARMFUL: dict[str, Callable[[Path], Path]] = {
    "zip, parent": lambda p: zipped(p / "a.zip", ("../outside", b"x")),
    "zip, deep parent": lambda p: zipped(p / "a.zip", ("a/../../outside", b"x")),
    "zip, absolute": lambda p: zipped(p / "a.zip", (str(p / "outside"), b"x")),
    "zip, backslash": lambda p: zipped(p / "a.zip", ("..\\outside", b"x")),
    "zip, drive": lambda p: zipped(p / "a.zip", ("C:outside", b"x")),
    "zip, link": lambda p: linked(p / "a.zip"),
    "tar, parent": lambda p: taped(p / "a.tar.gz", member("../outside")),
    "tar, absolute": lambda p: taped(p / "a.tar.gz", member(str(p / "outside"))),
    "tar, link": lambda p: taped(p / "a.tar.gz", member("l", tarfile.SYMTYPE, ".."), member("l/outside")),
    "tar, hard link": lambda p: taped(p / "a.tar.gz", member("l", tarfile.LNKTYPE, "../outside")),
    "tar, device": lambda p: taped(p / "a.tar.gz", member("null", tarfile.CHRTYPE)),
    "tar, pipe": lambda p: taped(p / "a.tar.gz", member("pipe", tarfile.FIFOTYPE)),
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_archives_are_refused(tmp_path: Path, kind: str) -> None:
    archive = HARMFUL[kind](tmp_path)
    with pytest.raises(DataError, match=r"a\.(zip|tar\.gz) is refused, for its member .* (leads elsewhere|is a link)"):
        unpack(archive, tmp_path / "into")
    assert not (tmp_path / "outside").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, suffix: str) -> None:
    half = SMALL // 2 + 1
    if suffix == "zip":
        archive = zipped(tmp_path / "a.zip", ("a", bytes(half)), ("b", bytes(half)))
    else:
        archive = taped(tmp_path / "a.tar.gz", member("a", size=half), member("b", size=half))
    with pytest.raises(DataError, match="is refused, for it becomes more than 256 MiB"):
        unpack(archive, tmp_path / "into")
    assert not (tmp_path / "into" / "b").exists()


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_damaged_archives_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = os.urandom(10_000)
    whole = tmp_path / f"a.{suffix}"
    zipped(whole, ("a", noise)) if suffix == "zip" else taped(whole, member("a", size=100_000))
    whole.write_bytes(whole.read_bytes()[:-60])
    with pytest.raises(DataError, match=rf"a\.{suffix} is damaged .*: fetch it anew"):
        unpack(whole, tmp_path / "into")


def test_sound_archives_are_unpacked_as_plain_files(tmp_path: Path) -> None:
    executable = member("part/train/good/a.png")
    executable.mode = 0o4777
    unpack(taped(tmp_path / "a.tar.gz", member("part", tarfile.DIRTYPE), executable), tmp_path / "tar")
    unpack(zipped(tmp_path / "a.zip", ("part/train/good/a.png", b"abc")), tmp_path / "zip")
    for kind in ("tar", "zip"):
        path = tmp_path / kind / "part" / "train" / "good" / "a.png"
        assert len(path.read_bytes()) == 3
        assert not path.stat().st_mode & 0o7111


# Stored features


def test_stored_features_with_objects_are_refused_unread(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harmed"),)

    np.save(tmp_path / "a.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    assert b"mkdir" in (tmp_path / "a.npy").read_bytes()
    with pytest.raises(ValueError, match="not a whole feature map"):
        FileMap(tmp_path / "a.npy")
    assert not (tmp_path / "harmed").exists()

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
from audited_child import BEGUN
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
    "eval", "exec", "builtins.eval", "builtins.exec", "os.system", "os.popen", "joblib.load", "pandas.read_pickle",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "shutil.unpack_archive", "tempfile.mktemp",
}  # fmt: skip
PICKLES = {"pickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"}  # modules that run what they read
KEYWORDS = {  # call -> argument -> value that makes it safe
    "torch.load": ("weights_only", True),
    "torch.hub.load_state_dict_from_url": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "numpy.save": ("allow_pickle", False),
}
SERVERS = {"http.server", "socketserver", "uvicorn", "flask", "fastapi", "xmlrpc.server", "asyncio"}
# A sweep's own message to the processes that it starts on other machines: no data, weights or store.
MESSAGES = {"launchers/away.py"}


class Source:
    """A module's text, whose names are read as what they are imported from: `p.loads` after `import pickle as p`."""

    def __init__(self, text: str) -> None:
        self.nodes = list(ast.walk(ast.parse(text)))
        self.imported: set[str] = set()  # modules, and what may be one: `from os import path`
        self._meant: dict[str, str] = {}
        for node in self.nodes:
            for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                within = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
                name = within + alias.name
                self.imported |= {name, within.rstrip(".")} - {""}
                if alias.asname or within:
                    self._meant[alias.asname or alias.name] = name

    def name(self, node: ast.AST) -> str | None:
        """Return the full dotted name that an expression is, if it is one."""
        if not isinstance(node, ast.Name | ast.Attribute):
            return None
        first, dot, rest = ast.unparse(node).partition(".")
        return self._meant.get(first, first) + dot + rest

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Yield every call of something that has a name."""
        for node in self.nodes:
            if isinstance(node, ast.Call) and (name := self.name(node.func)):
                yield name, node

    def unsafe(self) -> set[str]:
        """Return what is named, called or not, that runs what it reads, or lacks the argument that forbids it."""
        found = {name for node in self.nodes if (name := self.name(node)) in UNSAFE}
        for name, call in self.calls():
            keyword, safe = KEYWORDS.get(name, ("", None))
            given = [ast.unparse(argument.value) for argument in call.keywords if argument.arg == keyword]
            if keyword and given != [str(safe)]:
                found.add(name)
        return found

    def pickles(self) -> set[str]:
        """Return which modules that run what they read are imported."""
        return {name.partition(".")[0] for name in self.imported} & PICKLES


@cache
def sources() -> dict[str, Source]:
    """Every module of the package."""
    return {p.relative_to(PACKAGE).as_posix(): Source(p.read_text("utf-8")) for p in sorted(PACKAGE.rglob("*.py"))}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call: file, full name of what is called, and the call."""
    for file, source in sources().items():
        for name, call in source.calls():
            yield file, name, call


@pytest.mark.parametrize(
    ("text", "unsafe", "pickles"),
    [
        ("import pickle\npickle.loads(a)", set(), {"pickle"}),
        ("import pickle as p\np.loads(a)", set(), {"pickle"}),
        ("def f(a):\n    from pickle import loads\n    return loads(a)", set(), {"pickle"}),
        ("from torch import load\nload(a)", {"torch.load"}, set()),
        ("from torch import load as read\nread(a, weights_only=False)", {"torch.load"}, set()),
        ("import torch as t\nt.load(a, weights_only=True)", set(), set()),
        ("import numpy\nnumpy.load(a, allow_pickle=yes)", {"numpy.load"}, set()),
        ("from pandas import read_pickle as read\nmap(read, a)", {"pandas.read_pickle"}, set()),
        ("from os import system\nsystem(a)", {"os.system"}, set()),
        ("model.eval()\nexec(a)", {"exec"}, set()),
    ],
)
def test_unsafe_calls_are_found_by_whatever_name(text: str, unsafe: set[str], pickles: set[str]) -> None:
    assert (Source(text).unsafe(), Source(text).pickles()) == (unsafe, pickles)


def test_nothing_is_unpickled_or_run() -> None:
    assert {file for file, source in sources().items() if source.pickles()} == MESSAGES
    assert not {file: found for file, source in sources().items() if (found := source.unsafe())}
    assert {"torch.load", "numpy.save"} <= {name for _, name, _ in calls()}  # which unsafe() has looked at


def test_no_process_gets_a_shell_and_no_file_is_extracted_blindly() -> None:
    for file, name, call in calls():
        shell = [argument for argument in call.keywords if argument.arg == "shell"]
        assert not shell, f"{file}: {ast.unparse(call)}"
        assert name.rpartition(".")[2] not in ("extractall", "extract", "load_from_checkpoint"), f"{file}: {name}"


def test_nothing_listens() -> None:
    for file, source in sources().items():
        assert not SERVERS & source.imported, file
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


def programs(events: list[list[str]]) -> set[str]:
    started = (arguments[0] for event, *arguments in events if event == "subprocess.Popen")
    return {shlex.split(program)[0].rpartition("/")[2] for program in started}


def test_a_run_opens_no_socket_and_looks_up_no_name_for_a_pickle(audited: tuple[Path, list[list[str]], str]) -> None:
    events = audited[1]
    assert [arguments for event, *arguments in events if event == BEGUN] == [["harness"], ["harness.report"]]
    assert {event for event, *_ in events} <= {BEGUN, "subprocess.Popen"}, events
    assert programs(events) <= {"git", "uname", "ldconfig", "gcc", "ld", "lscpu"}, events
    if (PACKAGE.parent / ".git").exists():  # a run asks a checkout for its commit, an installed package nothing
        assert "git" in programs(events)


HARM = """
import pickle, socket, subprocess
pickle.loads(b"cbuiltins\\nlen\\n.")
with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    one.connect_ex(("127.0.0.1", 9))
subprocess.run(["true"], check=True)
"""


def test_the_audit_sees_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "harm.py").write_text(HARM)
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), TESTS["PYTHONPATH"]])}
    done = run_command(["audit.log", "harm"], "audited_child", cwd=tmp_path, env=environment() | paths)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    seen = [BEGUN, "pickle.find_class", "socket.bind", "socket.connect", "subprocess.Popen"]
    assert list(dict.fromkeys(event for event, *_ in events)) == seen
    assert programs(events) == {"true"}


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
    ("module", "arguments"),
    [
        ("harness", ["tracking.uri=http://me:s3cret=@127.0.0.1:9"]),
        ("harness", ["-m", "tracking.uri=http://me:s3cret=@127.0.0.1:9", "seed=0,1"]),
        ("harness", ["tracking.uri=[http://me:s3cret@127.0.0.1:9]"]),
        ("harness", ["tracking.uri=http://me:s3cret@127.0.0.1:9", "category=${nope}"]),
        ("harness", ["-m", "tracking.uri=http://me:s3cret@127.0.0.1:9", "method=padim,nope", "dry=true"]),
        ("harness.status", ["method=padim", "tracking.uri=http://me:s3(cret@127.0.0.1:9"]),
        ("harness.doctor", ["tracking.uri=postgresql:///db?user=me&password=s3cret"]),
        ("harness.audit", ["tracking.uri=http://me:s3cret@127.0.0.1:9"]),
    ],
)
def test_what_cannot_be_read_is_quoted_without_its_password(module: str, arguments: list[str], tmp_path: Path) -> None:
    done = run_command(arguments, module, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    assert "Error executing job" not in done.stderr  # Hydra's, with all overrides in it


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/a?token=secret", "http://***@host:5000/a"),
        ("postgresql://me:secret@host/db", "postgresql://***@host/db"),
        ("postgresql:///db?user=me&password=secret", "postgresql:///db"),
        ("mssql+pyodbc:///?odbc_connect=Driver%3DX%3BUID%3Dme%3BPWD%3Dsecret", "mssql+pyodbc:///"),
        ("postgresql://me:secret=@host/db", "postgresql://***@host/db"),
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

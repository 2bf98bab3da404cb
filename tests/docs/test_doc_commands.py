"""Every command of README and the documentation: marked, and possible as it is typed.

Here harness commands are parsed and composed, which takes no training; test_doc_runs.py runs them.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from blocks import DOCS, ELSEWHERE, LANGUAGES, README, REPOSITORY, SHELLS, WORDS, blocks, main_job, pages, tokens
from omegaconf import DictConfig

from harness.grid import expand, split_launcher
from harness.schema import compose, validate

PAGES = [page.relative_to(REPOSITORY).as_posix() for page in pages()]
KNOWN = {"cat", "cd", "cp", "createdb", "export", "ls", "mkdir", "pdflatex", "sbatch", "srun", "source", "squeue"}
MAIN_JOB = (
    "python -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt . && "
    "python -m harness -m method=radl,patchcore 'seed=range(8)' && python -m harness.report"
)
NOXFILE = (REPOSITORY / "noxfile.py").read_text(encoding="utf-8")
SESSIONS = re.findall(r"^def (\w+)\(session: nox.Session\) -> None", NOXFILE, flags=re.MULTILINE)
TEST_JOB = 'python -m venv .venv && .venv/bin/pip install -q "nox[uv]" && .venv/bin/nox'


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def lines_of(page: str) -> Iterator[str]:
    for block in blocks(text_of(page)):
        if block.language in SHELLS:
            yield from block.commands()
        elif block.language == ELSEWHERE:
            yield from (command for command in block.commands() if command.startswith(("python -m harness", "mlflow ")))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_says_what_is_to_be_done_with_it(page: str) -> None:
    text = text_of(page)
    found = list(blocks(text))
    assert len(re.findall(r"^\s*```", text, flags=re.MULTILINE)) == 2 * len(found), (
        "a fence is not as blocks.py reads it"
    )
    for block in found:
        assert block.words <= WORDS, f"{page}:{block.line}: {block.words - WORDS} is none of {sorted(WORDS)}"
        if block.language in LANGUAGES and block.title is None:
            assert block.runs, f"{page}:{block.line}: add what the tests are to do: {', '.join(sorted(WORDS))}"
        assert block.language != ELSEWHERE or "nox -s " in text, f"{page}: name the session that runs its commands"
        if block.language not in (*LANGUAGES, ELSEWHERE):
            hidden = [line for line in block.commands() if line.startswith(("python -m harness", "mlflow ", "pip "))]
            assert not hidden, f"{page}:{block.line}: commands are tested behind ```bash: {hidden}"


def test_a_fence_in_a_list_is_a_block() -> None:
    (block,) = blocks("1. Do this:\n\n    ```bash composed\n    mlflow server \\\n        --port 1\n    ```\n")
    assert (block.language, block.words, block.line) == ("bash", {"composed"}, 3)
    assert block.commands() == ["mlflow server --port 1"]
    assert not list(blocks("```\npython -m harness\n```\n"))  # which the count of fences then tells


@pytest.fixture(scope="module")
def folder(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all pages, with the files that they write: what is composed for one page is not composed again."""
    folder = tmp_path_factory.mktemp("pages")
    for place in furnished.iterdir():
        (folder / place.name).symlink_to(place)
    for block in (block for page in PAGES for block in blocks(text_of(page)) if block.title is not None):
        (folder / str(block.title)).parent.mkdir(parents=True, exist_ok=True)
        (folder / str(block.title)).write_text(block.text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if list(lines_of(page))])
def test_commands_are_possible_as_typed(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for command in lines_of(page):
        check(command)


SETTING = re.compile(r"'?[a-z]\w*(?:\.\w+)+=(?!COLUMN)\S")


def settings_of(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return what tables give as settings to be typed (`launcher.minutes=60`), each with what it is typed beside.

    Below a head like `protocol=` the first cell of a row is a choice of it, which the settings of the row belong to.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    group = ""
    for line in text_of(page).splitlines():
        cells = re.findall(r"`([^`]+)`", line)
        if not line.startswith("|"):
            group = ""
        elif head := re.match(r"\| `(\w+=)` \|", line):
            group = head[1]
        elif cells:
            beside = (f"{group}{cells[0]}",) if group else ("launcher=slurm",) if "launcher." in cells[0] else ()
            found += [(cell, beside) for cell in cells if SETTING.match(cell)]
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if settings_of(page)])
def test_settings_in_tables_are_possible_as_typed(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for setting, beside in settings_of(page):
        words = tokens(setting)
        assert len(words) == 1, f"{page}: a shell makes {len(words)} words of {setting}"
        _run(["-m", *beside, *words])


def check(command: str) -> None:
    """Raise when a command could not be run: a module, option, key or choice that does not exist."""
    words = [word for word in tokens(command) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if words[:2] == ["python", "-m"] and words[2].partition(".")[0] == "harness":
        MODULES[words[2]](words[3:])
    elif words[0] == "python" and words[1] == "-c":
        compile(words[2], command, "exec")
    elif words[:2] == ["python", "-m"]:
        assert words[2] in ("venv", "http.server"), command
    elif words[0] == "nox":
        assert words[1:2] in ([], ["-l"]) or words[2] in SESSIONS, command
    elif words[0] in ("pip", "uv"):
        _check_install(words)
    elif words[0] == "mlflow":
        _check_mlflow(words[1:])
    else:
        assert words[0] in KNOWN, f"{command}: tests/docs does not know {words[0]}"


def _check_mlflow(words: Sequence[str]) -> None:
    """Let MLflow's own command line parse a command, without running it."""
    from mlflow.cli import cli

    command: Any = cli
    name, *rest = ("server" if words[0] == "ui" else words[0], *words[1:])  # which `ui` is another name of
    command = command.commands[name]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(name, list(rest))


def _check_install(words: Sequence[str]) -> None:
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r"(?:\.|anomaly-harness)\[([\w,-]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(known), words
    for file in [word for word in words if word.endswith(".txt")]:
        assert (REPOSITORY / file).is_file(), words


def _overrides(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return what is configuration, with the user's own folder as Hydra's search path."""
    given = [a for a in arguments if a not in ("-m", "--multirun", "--help", "--debug", "--cfg", "job")]
    path: list[str] = []
    if "--config-dir" in given:
        place = given.index("--config-dir")
        path = [f"hydra.searchpath=[{Path(given[place + 1]).resolve().as_uri()}]"]
        del given[place : place + 2]
    return (*given, *path)


def _run(arguments: Sequence[str]) -> None:
    own = _overrides(arguments)
    if "-m" not in arguments:
        _valid(own)
        return
    cells = expand(list(own), _composed)
    assert cells
    _valid(split_launcher(own)[1])  # which is the sweep's, and in no cell
    for cell in (cells[0], cells[-1]):
        assert cell.problem is None, cell.problem
        if "method=radl-plate" not in cell.overrides:  # which tuning writes
            _valid(cell.overrides)


def _valid(overrides: Sequence[str]) -> None:
    validate(_composed(overrides))


def _composed(overrides: Sequence[str]) -> DictConfig:
    return _cached(tuple(sorted(overrides)))


@cache
def _cached(overrides: tuple[str, ...]) -> DictConfig:
    return compose(overrides)


def _report(arguments: Sequence[str]) -> None:
    from harness.report.options import parse

    if arguments[:1] == ["explain"]:
        assert re.fullmatch(r"(?:(?:method|category|metric)=\S+ ?)+", arguments[1])
        arguments = arguments[2:]
    options = parse(list(arguments))
    if options.experiment is not None:
        folder = ["--config-dir", options.config_dir] if options.config_dir else []
        assert expand([*_overrides(folder), f"experiment={options.experiment}", *options.overrides], _composed)


def _tune(arguments: Sequence[str]) -> None:
    from harness.tuning.options import parse

    _valid(parse(list(arguments)).overrides)


def _data(arguments: Sequence[str]) -> None:
    assert arguments[0] == "check"
    _composed([a for a in arguments[1:] if not a.startswith("category=")])


def _status(arguments: Sequence[str]) -> None:
    from harness.status.options import parse

    _grid(parse(list(arguments)).overrides)


def _grid(arguments: Sequence[str]) -> None:
    """Of a command whose overrides are a grid's without -m."""
    if arguments:
        _run(["-m", *arguments])


def _completion(arguments: Sequence[str]) -> None:
    from harness.completion import SCRIPTS

    assert arguments[0] in SCRIPTS


MODULES: dict[str, Callable[[Sequence[str]], None]] = {
    "harness": _run,
    "harness.report": _report,
    "harness.tune": _tune,
    "harness.data": _data,
    "harness.status": _status,
    "harness.audit": _grid,
    "harness.completion": _completion,
    "harness.doctor": _grid,
}


def test_the_two_commands_stand_in_the_readme() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.count(f"    {MAIN_JOB}") == lines.count(f"    {TEST_JOB}") == 1
    assert TEST_JOB in (REPOSITORY / ".ci" / "run").read_text()
    assert main_job(README.read_text()) == [part.strip() for part in MAIN_JOB.split("&&")[-2:]]
    assert len(lines) <= 150


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", README.read_text(encoding="utf-8")):
        assert (REPOSITORY / target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "docs/tools/papers.yaml"])
def test_sessions_and_tests_that_are_named_exist(page: str) -> None:
    text = text_of(page)
    assert set(re.findall(r"nox(?: -R)? -s (\w+)", text)) <= set(SESSIONS)
    assert all(f'tags=["{tag}"]' in NOXFILE for tag in re.findall(r"nox -t (\w+)", text))
    for file in re.findall(r"(?:tests|harness|benchmarks|docs/tools)/[\w/]+\.\w+", text):
        assert (REPOSITORY / file).is_file(), file


def test_what_a_session_installs_is_pinned() -> None:
    pinned = {line.partition("==")[0] for line in text_of("constraints.txt").splitlines()}
    installs = re.findall(r"session\.install\((.*)\)", NOXFILE)
    for line in installs:
        assert line.startswith('"-c", "constraints.txt", '), line
        assert set(re.findall(r'"([a-z][a-z-]+)(?:\[\w+\])?"', line)) <= pinned, line
    assert len(installs) >= 4


def test_every_marker_has_the_session_that_is_said() -> None:
    """CONTRIBUTING's table of markers is the noxfile's."""
    run = re.findall(r'def (\w+)\(session[^"]*"""[^"]*"""\n    marked\(session, "([^"]+)"', NOXFILE)
    markers = {marker: session for session, expression in run for marker in expression.split(" or ")}
    (apart,) = re.findall(r"^APART = \(([^)]*)\)", NOXFILE, flags=re.MULTILINE)
    assert set(re.findall(r'"(\w+)"', apart)) == set(markers)
    told = re.findall(r"^\| `(\w+)` \| .* \| `nox -s (\w+)` \|$", text_of("CONTRIBUTING.md"), flags=re.MULTILINE)
    assert dict(told) == markers


def test_the_source_distribution_has_what_the_repository_has() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    included = tomllib.loads(text_of("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    tops = {line.partition("/")[0] for line in listed.splitlines()}
    assert tops - {"pyproject.toml", ".gitignore"} == set(included)  # these two hatchling adds by itself


def test_no_page_names_a_place_of_this_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/(?:work|root|home|tmp)/", text_of(page)), page


def test_the_picture_of_the_report_is_small() -> None:
    assert 10_000 < (DOCS / "img" / "report.png").stat().st_size < 300_000

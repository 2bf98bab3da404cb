"""Bad inputs through the real command line: one sentence with culprit and remedy, and nothing of the data run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest
from bad_input_corpus import CORPUS, CRACK, Case
from bad_inputs import IMAGE, PART, PHOTOS, bomb, sound, told, trust_weights, write
from commands import run_command


def corpus() -> list[object]:
    cases = [(kind, module, case) for (kind, module), listed in CORPUS.items() for case in listed]
    return [pytest.param(module, case, id=f"{kind}: {case.name}") for kind, module, case in cases]


def test_the_corpus_is_large() -> None:
    assert len(corpus()) >= 100


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder before anything is spoilt, with one finished run in its store, as a run leaves it."""
    here = tmp_path_factory.mktemp("template")
    sound(here / PART)
    done = run_command(shlex.split(f"{PHOTOS} seed=7"), cwd=here)
    assert done.returncode == 0, done.stderr
    trust_weights(here)
    return here


@pytest.fixture
def here(template: Path, tmp_path: Path) -> Path:
    place = tmp_path / "here"
    copytree(template, place, ignore=shutil.ignore_patterns("features", "checked", "locks"))
    return place


@pytest.mark.parametrize(("module", "case"), corpus())
def test_bad_input_is_one_sentence(here: Path, module: str, case: Case) -> None:
    case.spoil(here)
    code, text = told(here, module, case.typed, case.obedient)
    assert code == case.code, text
    said = " ".join(text.split())
    assert case.culprit in said
    assert case.remedy in said
    assert "Traceback" not in text
    assert "s3cret" not in text
    assert len(text.splitlines()) <= 4
    assert not (here / "harmed").exists(), "code in the data has run"


@pytest.mark.parametrize(("typed", "env"), [("--debug seed=abc", {}), ("seed=abc", {"HYDRA_FULL_ERROR": "1"})])
def test_a_traceback_is_there_for_those_who_ask(here: Path, typed: str, env: dict[str, str]) -> None:
    code, text = told(here, "harness", typed, **env)
    assert code == 1
    assert "Traceback (most recent call last)" in text
    assert text.splitlines()[-1] == "harness: seed=abc is not possible; give a whole number."


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / IMAGE.parent).mkdir(parents=True)
    bomb(tmp_path)
    code = (
        "import sys; from pathlib import Path; from harness.data.masks import load_image\n"
        "try: load_image(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(Path('/proc/self/status').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / IMAGE], capture_output=True, text=True, check=True)
    kind, *status = done.stdout.splitlines()
    assert kind == "DataError"
    (peak,) = [line.split()[1] for line in status if line.startswith("VmHWM")]
    assert int(peak) < 300 * 1024  # of the 3.6 GB that it would take


def test_a_thousand_problems_are_a_few_lines(here: Path) -> None:
    for i in range(50):
        write(CRACK / f"x{i}.png", "a note")(here)
    code, text = told(here, "harness", "")
    assert code == 1
    assert "photos/part has 100 problem(s):" in text
    assert "python -m harness.data check" in text.splitlines()[-1]
    assert len(text.splitlines()) < 15

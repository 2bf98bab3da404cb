"""Outputs that pages show are those of their commands: Python's to the last digit, the main job's in its shape."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from blocks import README, REPOSITORY, Block, pages
from commands import Run
from outputs import BEGIN, END, outputs, shown

SMALL = ["preprocess.size=32", "trainer.max_epochs=1", "metrics.heatmaps=0"]


def python_outputs() -> list[tuple[str, Block, Block]]:
    found = []
    for page in pages():
        name = page.relative_to(REPOSITORY).as_posix()
        for block, after in outputs(page.read_text(encoding="utf-8")):
            if block.language == "python":
                found.append((f"{name}:{block.line}", block, after))
    return found


@pytest.mark.parametrize(("place", "block", "after"), python_outputs(), ids=lambda value: str(value)[:60])
def test_python_prints_what_the_page_shows(
    place: str, block: Block, after: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, place, "exec"), {})
    assert shown(printed.getvalue()) == after.text, f"{place}: python docs/tools/outputs.py writes it anew"


def shape(text: str) -> list[str]:
    """Return what stays from run to run: numbers become 0, and the widths of a table's columns do not count."""
    lines = [re.sub(r"\d+(?:\.\d+)?", "0", line) for line in text.splitlines()]
    return [" ".join(re.sub(r"[━─┏┳┓┡╇┩└┴┘]+", "─", line).split()) for line in lines]


def test_the_main_job_prints_what_the_readme_shows(run: Run, tmp_path: Path) -> None:
    """The same command with two seeds in the smallest form: same tables, rows and columns."""
    text = README.read_text(encoding="utf-8")
    readme = text.partition(BEGIN)[2].partition(END)[0].strip().removeprefix("```text\n").removesuffix("```")
    grid = run("-m", "method=radl,patchcore", "seed=range(2)", *SMALL)
    report = run("tables=[image_auroc]", module="harness.report")  # without figures, and in half the time
    assert grid.returncode == report.returncode == 0, grid.stderr + report.stderr
    assert shape(readme) == shape(shown(grid.stdout + report.stdout))

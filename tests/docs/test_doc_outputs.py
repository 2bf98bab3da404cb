"""Outputs that pages show are those of their commands: Python's to the last digit, the main job's in its shape.

The numbers of the main job are the example report's, for its grid holds the same runs; test_doc_runs.py runs the job as
it is typed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from pathlib import Path

import pytest
from blocks import README, REPOSITORY, Block, pages, tokens
from commands import Run
from outputs import BEGIN, END, outputs, shown

POINTS = 0.5  # by which metrics in percent may differ on another processor
NUMBER = re.compile(r"\d+(?:\.\d+)?")
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
    lines = [NUMBER.sub("0", line) for line in text.splitlines()]
    return [" ".join(re.sub(r"[━─┏┳┓┡╇┩└┴┘]+", "─", line).split()) for line in lines]


def assert_same(printed: str, told: str, place: str) -> None:
    """Hold what a command printed against what a page shows: counts are equal, metrics nearly so."""
    assert shape(printed) == shape(told), place
    for found, expected in zip(NUMBER.findall(printed), NUMBER.findall(told), strict=True):
        if "." in found and "." in expected:
            assert float(found) == pytest.approx(float(expected), abs=POINTS), place
        else:
            assert found == expected, f"{place}: {found} where the page has {expected}"


@pytest.mark.parametrize("stale", ["1 image: 9.71 %", "2 images: 9.71 %", "1 image: 9 %", "1 image: 8.1 %"])
def test_stale_numbers_are_noticed(stale: str) -> None:
    assert_same("1 image: 9.5 %", "1 image: 9.71 %", "page")
    with pytest.raises(AssertionError):
        assert_same("1 image: 9.2 %", stale, "page")


def main_job_shown() -> str:
    text = README.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip().removeprefix("```text\n").removesuffix("```")


def test_the_numbers_of_the_readme_are_those_of_the_example_report() -> None:
    tables = main_job_shown().partition("AUPRO %")
    for table, name in ((tables[0], "image_auroc"), (tables[2], "aupro")):
        with (REPOSITORY / "reports" / "example" / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = {row["method"]: row for row in csv.DictReader(file) if row["category"] == "bolted_plate"}
        shown_rows = re.findall(r"│ (\w+) +│ ([\d.]+) ± ([\d.]+) \((\d+)\) │", table)
        assert {method for method, *_ in shown_rows} == {"radl", "patchcore"}
        for method, mean, std, n in shown_rows:
            assert float(mean) == pytest.approx(float(rows[method]["mean"]), abs=0.0051)  # two decimals are printed
            assert float(std) == pytest.approx(float(rows[method]["std"]), abs=0.0051)
            assert n == rows[method]["n"]


def test_the_check_of_images_counts_what_the_page_shows(run: Run, furnished: Path) -> None:
    page = (REPOSITORY / "docs" / "tutorials" / "own-images.md").read_text(encoding="utf-8")
    ((block, after),) = outputs(page)
    (command,) = block.commands()
    done = run(*tokens(command)[3:], module="harness.data", cwd=furnished)
    assert shown(done.stdout) == after.text


def test_the_main_job_prints_what_the_readme_shows(run: Run, tmp_path: Path) -> None:
    """The same command with two seeds in the smallest form: same tables, rows and columns."""
    grid = run("-m", "method=radl,patchcore", "seed=range(2)", *SMALL)
    report = run("tables=[image_auroc]", module="harness.report")  # without figures, and in half the time
    assert grid.returncode == report.returncode == 0, grid.stderr + report.stderr
    assert shape(main_job_shown()) == shape(shown(grid.stdout + report.stdout))

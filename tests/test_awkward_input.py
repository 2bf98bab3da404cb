"""What looks bad and is not: names of people's own and files as cameras write them; beside it a broken category.

A sweep over both, its reports, and the sweep again once the broken one is mended.
"""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from shutil import copyfile

import numpy as np
import pandas as pd
import pytest
from bad_inputs import STORE, save, sound, told, trust_weights, write

METHOD = "<i>&_$m$ \\input{secret} #1"
AWKWARD = "Prüfteil <img src=x onerror=alert(1)>\n\\input{secret} $x_1^2$ & 50%_#1 'q' \"d\" [red] | `=1+1`"


SWEEP = shlex.join(["-m", "category=all", "metrics.heatmaps=2", f"method.name='{METHOD}'"])


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories: one awkward in every way that is allowed, and one with a broken image."""
    here = tmp_path_factory.mktemp("awkward")
    part = here / "photos" / AWKWARD
    sound(here / "photos" / "broken")
    write(Path("photos", "broken", "train", "good", "000.png"), "")(here)
    sound(part)
    grey = np.random.default_rng(0).integers(0, 65_536, (16, 24))
    good = Path("train", "good")
    for build in (
        save(grey, good / "16 bits.png", "uint16"),
        save(grey // 256, good / "ü–漢.tif", mode="CMYK"),
        save(grey // 257, good / "a\nb.png", mode="RGBA"),
        save(grey // 300, good / "<b>&amp;.png", mode="P"),
        save(grey // 400, good / "it's 5 %d, 'q' \"d\".png", mode="LA"),
        save(grey // 500, Path("test", "crack", "$x_1^2$ \\input{secret} #.png"), mode="1"),
        save(grey // 600, Path("test", "<script>alert(1)", "=1+1.jpg")),
    ):
        build(part)
    for defect, name in (("crack", "$x_1^2$ \\input{secret} #"), ("<script>alert(1)", "=1+1")):
        save(np.eye(16, 24) * 255, Path("ground_truth", defect, f"{name}_mask.png"))(part)
    return here


@pytest.fixture(scope="module")
def swept(awkward: Path) -> tuple[int, str]:
    return told(awkward, "harness", SWEEP)


def test_a_broken_category_does_not_stop_an_awkward_one(awkward: Path, swept: tuple[int, str]) -> None:
    code, text = swept
    assert code == 1
    assert "1/2" in text and "finished  test/image_auroc" in text
    assert "category=broken failed: photos/broken has 1 problem(s)" in text
    assert "Traceback" not in text


def test_what_is_finished_is_kept_and_what_is_mended_is_run(awkward: Path, swept: tuple[int, str]) -> None:
    before = read(awkward / STORE, "SELECT run_uuid, end_time FROM runs WHERE status = 'FINISHED'")
    assert len(before) == 1
    copyfile(awkward / "photos" / "broken" / "train/good/001.png", awkward / "photos" / "broken" / "train/good/000.png")
    code, text = told(awkward, "harness", SWEEP)
    assert code == 0, text
    after = read(awkward / STORE, "SELECT run_uuid, end_time FROM runs WHERE status = 'FINISHED'")
    assert len(after) == 2 and set(before) < set(after)


def test_awkward_images_have_finite_scores(awkward: Path, swept: tuple[int, str]) -> None:
    scored = {path: pd.read_parquet(path) for path in awkward.rglob("scores.parquet")}
    of = next(frame for frame in scored.values() if "test/<script>alert(1)/=1+1.jpg" in set(frame["image"]))
    assert "test/crack/$x_1^2$ \\input{secret} #.png" in set(of["image"])
    assert np.isfinite(of["score"]).all()
    splits = [pd.read_csv(path) for path in awkward.rglob("split.csv")]
    assert any("train/good/a\nb.png" in set(split["image"]) for split in splits)


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_awkward_names_are_text_in_reports(awkward: Path, swept: tuple[int, str]) -> None:
    trust_weights(awkward)
    code, text = told(awkward, "harness.report", "")
    assert code == 0, text
    report = awkward / "reports" / "all"
    page = Page((report / "index.html").read_text(encoding="utf-8"))
    assert not [element for element in page.elements if element[1].get("src") == "x" or "onerror" in element[1]]
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 2
    assert "Prüfteil <img src=x onerror=alert(1)>" in page.text
    assert METHOD in page.text
    (policy,) = [e["content"] for tag, e in page.elements if e.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "<img src=x" not in markdown and "<script>" not in markdown
    tables = sorted((report / "tables").glob("*.tex"))
    assert tables and not [table for table in tables if "\\input{secret}" in table.read_text(encoding="utf-8")]
    named = next(table for table in tables if "Pr" in table.read_text(encoding="utf-8"))
    compile_latex(named)


def compile_latex(table: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", table.name]
    done = subprocess.run(command, cwd=table.parent, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def read(store: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store)) as connection:
        return connection.execute(query).fetchall()

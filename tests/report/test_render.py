"""Layout and rendering: what a reader sees, and that LaTeX and Markdown survive awkward names."""

import io
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from harness.report.measures import Measure
from harness.report.render import csv, latex, latex_text, markdown, markdown_text
from harness.report.summary import COLUMNS
from harness.report.tables import Table, layout

AUROC = Measure("test/image_auroc", "Image AUROC")
AWKWARD = r'50%_a & #1 <b>x</b> | {c} $d$ ~^\ "e" Müller'


def numbers(*rows: tuple[str, str, float, float, int, bool]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            ("toy", category, category == "Mean", label, mean, std, n, best, ("id",), "seed")
            for category, label, mean, std, n, best in rows
        ],
        columns=COLUMNS,
    )


def table(*rows: tuple[str, str, float, float, int, bool], measure: Measure = AUROC) -> Table:
    summary = numbers(*rows)
    return layout(measure, summary, sorted(summary["label"].unique()))


SIMPLE = (
    ("bottle", "a", 97.123, 0.31, 8, True),
    ("bottle", "b", 90.0, 1.26, 8, False),
    ("screw", "a", 80.0, 0.2, 8, True),
    ("Mean", "a", 88.5, 0.25, 8, False),
)


def test_markdown_table() -> None:
    assert markdown(table(*SIMPLE)).splitlines() == [
        "| Category | a | b |",
        "| --- | ---: | ---: |",
        "| bottle | **97.1 ± 0.3** | 90.0 ± 1.3 |",
        "| screw | **80.0 ± 0.2** | – |",
        "| *Mean* | 88.5 ± 0.2 | – |",
    ]


def test_caption_tells_seeds_deviation_and_rule() -> None:
    caption = table(*SIMPLE).caption
    assert "over 8 seeds" in caption
    assert "ddof 1" in caption
    assert "Welch" in caption
    assert "5 %" in caption
    assert "†" not in caption


def test_one_seed_is_said_so() -> None:
    some = table(
        ("x", "a", 97.0, float("nan"), 1, False), ("x", "b", 90.0, 1.0, 8, True), ("x", "c", 9.0, 1.0, 7, False)
    )
    assert markdown(some).splitlines()[2] == "| x | 97.0 † | **90.0 ± 1.0** | 9.0 ± 1.0 (n=7) |"
    assert "†: one seed" in some.caption
    assert "(n=…)" in some.caption
    alone = table(("x", "a", 97.0, float("nan"), 1, False), ("x", "b", 90.0, float("nan"), 1, False))
    assert markdown(alone).splitlines()[2] == "| x | 97.0 | 90.0 |"
    assert "one seed" in alone.caption
    assert "no test, nothing in bold" in alone.caption


def test_decimals_fit_the_numbers() -> None:
    assert "99.87 ± 0.02" in markdown(table(("x", "a", 99.87, 0.02, 8, True)))
    assert "99.9 ± 0.0" in markdown(table(("x", "a", 99.87, 0.0, 8, True)))
    seconds = Measure("time/train", "Training time", "s", 1.0, tested=False)
    assert "1235 ± 2" in markdown(table(("x", "a", 1234.5678, 2.3, 8, False), measure=seconds))
    assert "0.123 ± 0.002" in markdown(table(("x", "a", 0.12345, 0.0023, 8, False), measure=seconds))


def test_markdown_escapes() -> None:
    text = markdown_text(AWKWARD)
    assert "<" not in text
    assert re.search(r"(?<!\\)\|", text) is None
    row = markdown(table((AWKWARD, "a_b", 1.0, 1.0, 2, False))).splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert markdown_text("magnetic_tile _x_") == r"magnetic_tile \_x\_"
    assert markdown_text("two\nlines") == "two lines"


def test_latex_escapes_to_ascii() -> None:
    assert latex_text("a_b & 50% #1") == r"a\_b \& 50\% \#1"
    assert latex_text("<x|y>") == r"\textless{}x\textbar{}y\textgreater{}"
    assert latex_text("Müller é") == r"M\"{u}ller \'{e}"
    assert latex_text("キ") == "[U+30AD]"
    assert latex_text("{\\}") == r"\{\textbackslash{}\}"
    assert latex(table((AWKWARD, AWKWARD, 1.0, 1.0, 2, True))).isascii()


def test_latex_has_as_many_cells_as_columns() -> None:
    document = latex(table(*SIMPLE, (AWKWARD, "a", 1.0, 0.5, 3, False)))
    body = document[document.index(r"\toprule") : document.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(lines) == 5
    assert all(len(re.findall(r"(?<!\\)&", line)) == 2 for line in lines)
    assert document.count(r"\begin{") == document.count(r"\end{") == 3
    unescaped = re.sub(r"\\[{}]", "", document)
    assert unescaped.count("{") == unescaped.count("}")
    assert r"{\boldmath$97.1 \pm 0.3$}" in document


def test_csv_is_tidy_and_unrounded() -> None:
    tidy = pd.read_csv(io.StringIO(csv(table(*SIMPLE))))
    assert list(tidy.columns) == ["dataset", "category", "method", "mean", "std", "n", "best", "unit"]
    assert tidy["mean"].tolist() == [97.123, 90.0, 80.0, 88.5]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("methods", [2, 8])
def test_latex_compiles_on_its_own(tmp_path: Path, methods: int) -> None:
    rows = [(AWKWARD, f"{AWKWARD} {i}", 97.0 + i, 0.5, 8 if i else 1, i == 1) for i in range(methods)]
    (tmp_path / "table.tex").write_text(latex(table(*rows)), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert result.returncode == 0, result.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000

"""Layout and rendering: what a reader sees, and that Markdown survives awkward names."""

import io
import re

import pandas as pd

from harness.report.measures import Measure
from harness.report.render import csv, markdown, markdown_text
from harness.report.summary import COLUMNS
from harness.report.tables import Table, layout

AUROC = Measure("test/image_auroc", "Image AUROC")
AWKWARD = r'50%_a & #1 <b>x</b> | {c} $d$ ~^\ "e" Müller'


def numbers(*rows: tuple[str, str, float, float, int, bool]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            ("toy", category, category == "Mean", label, mean, std, n, best, ("id",), "seed", AUROC.key, 0.5, 0.5, best)
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


def test_csv_is_tidy_and_unrounded() -> None:
    tidy = pd.read_csv(io.StringIO(csv(table(*SIMPLE))))
    assert list(tidy.columns) == [
        *("dataset", "category", "method", "mean", "std", "n", "best", "unit", "measure"),
        *("pvalue", "holm", "best_after_holm"),
    ]
    assert tidy["mean"].tolist() == [97.123, 90.0, 80.0, 88.5]

"""LaTeX: what stands in the cells, how tables are split, and that pdflatex has nothing to say about any of them."""

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.report.latex import latex, latex_text
from harness.report.tables import Cell, Row, Table

AWKWARD = r'50%_<b>|edge & #1 \x{c} $d$ ~^ "e" [f]* Müller キ --'
COMPLAINTS = re.compile(r"^.*(?:Overfull|Underfull|Warning|Float too large|Missing character).*$", re.MULTILINE)
VERSION_2 = r"\usepackage{siunitx}[=v2]"
CAPTION = "Image AUROC, in percent: mean ± sample standard deviation (ddof 1) over 8 seeds, last epoch. " * 3


def table(
    columns: list[str], rows: list[Row], heads: tuple[str, ...] = ("Category",), name: str = "image_auroc"
) -> Table:
    return Table(name, "Image AUROC", CAPTION, tuple(columns), tuple(rows), pd.DataFrame(), heads=heads)


def one(*cells: Cell | None) -> Table:
    """Return a table of one column."""
    return table(["radl"], [Row("toy", f"category {i}", (cell,)) for i, cell in enumerate(cells)])


def number(i: int) -> Cell:
    return Cell(f"{50 + i * 7.77 % 50:.2f}", f"{i % 12}.{i % 100:02d}", bold=i % 5 == 0)


def wide(methods: int, categories: int, datasets: tuple[str, ...]) -> Table:
    columns = [f"method{i} (fdfa=false, loss=truncated_l1)" if i % 3 else f"method{i}" for i in range(methods)]
    rows = []
    for dataset in datasets:
        for c in range(categories):
            rows.append(Row(dataset, f"category_{c}", tuple(number(c * methods + m) for m in range(methods))))
        rows.append(Row(dataset, "Mean", tuple(number(m) for m in range(methods)), True))
    return table(columns, rows)


def tall(categories: int, methods: int, columns: list[str]) -> Table:
    rows = [
        Row("toy", f"category {c}", tuple(number(c + m + i) for i in range(len(columns))), False, (f"method {m}",))
        for c, m in product(range(categories), range(methods))
    ]
    rows += [Row("toy", "Mean", (None,) * len(columns), True, (f"method {m}",)) for m in range(methods)]
    return table(columns, rows, ("Category", "Method"))


NUMBERS = (
    ("12345678901.5", "-0.25", "+1.20", "0.000012", "65", "< 0.1", "4.5"),
    ("1.0", "-123.00", "-0.31", "3.100000", "-7", "12.3 [-11, 14]", "6.0"),
    ("0.3", "99.10", "0.00", "12.000000", "104", "undecided", "text"),
)
CASES = {
    "few": wide(2, 3, ("mvtec_ad",)),
    "many": wide(20, 15, ("mvtec_ad (0.15 of the images tested, grouped by num_(\\d+))", "autovi")),
    "tall": tall(40, 3, ["Worst drop", "Settled"]),
    "thresholds": tall(3, 2, ["FPR", "FNR", "Precision", "Recall", "F1", "TP", "FP", "FN", "TN"]),
    "notes": table(
        ["some", "bold", "long"],
        [
            Row("toy", note, (Cell("9.7", "0.4", note), Cell("97.12", "", note, True, True), Cell("+1.2", "", long)))
            for note in ("", "†", "‡", "°", "(n=2)", "° (n=2)", "[1.0, 2.0]")
            for long in ("(p < 0.001, Holm 0.003)",)
        ],
    ),
    "missing": table(["some", "none"], [Row("toy", "a", (None, None)), Row("toy", "b", (Cell("97.1", "0.2"), None))]),
    "one column": one(Cell("97.1", "0.2", underlined=True)),
    "awkward": table(
        [AWKWARD, "map_assisted_classifier_image"],
        [Row(AWKWARD, AWKWARD, (Cell(AWKWARD, "1.0", "†"), Cell("1.0", "0.1", AWKWARD)), more=(AWKWARD,))] * 2,
        ("Category", "Method"),
        name=AWKWARD,
    ),
    "numbers": table(
        list("abcdefg"),
        [
            Row("toy", str(bold), tuple(Cell(mean, std, bold=bold, underlined=bold) for mean in means))
            for means, std, bold in zip(NUMBERS, ("", "1234.5", "0"), (False, True, False), strict=True)
        ],
    ),
}
PRINTED = {
    "few": ["57.77 ± 1.01", "method1", "Mean"],
    "many": ["category 14", "method19", "(continued)"],
    "tall": ["category 39", "(continued)", "method 2"],
    "thresholds": ["57.77 ± 1.01", "Precision", "TN"],
    "notes": ["9.7 ± 0.4 †", "9.7 ± 0.4 ◦", "9.7 ± 0.4 (n=2)", "97.12 ‡", "+1.2 (p < 0.001, Holm 0.003)"],
    "missing": ["97.1 ± 0.2", "–"],
    "one column": ["97.1 ± 0.2"],
    "awkward": ["<b>|edge", "#1", "[U+30AD]", "& #1"],
    "numbers": ["12 345 678 901.5", "−0.25", "+1.20", "65", "< 0.1", "12.3 [−11, 14] ± 1234.5", "12.000 000 ± 0"],
}


def printed(folder: Path, document: str) -> str:
    """Compile a document, which pdflatex must do without a word of complaint, and return its text."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    (folder / "table.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if "siunitx.sty' not found" in result.stdout:
        pytest.skip("siunitx is not installed")
    assert result.returncode == 0, result.stdout[-2000:]
    assert COMPLAINTS.findall((folder / "table.log").read_text(encoding="utf-8", errors="replace")) == []
    if shutil.which("pdftotext") is None:
        return ""
    text = subprocess.run(
        ["pdftotext", "-layout", "table.pdf", "-"], cwd=folder, capture_output=True, check=True
    ).stdout
    return " ".join(text.decode().replace("\u2009", " ").split())


def body(document: str) -> str:
    """Return what a user copies."""
    return document[document.index("% --- the table begins") : document.index(r"\end{document}")]


@pytest.mark.parametrize("case", CASES)
def test_compiles_on_its_own_without_a_warning(case: str, tmp_path: Path) -> None:
    text = printed(tmp_path, latex(CASES[case]))
    assert not text or [words for words in PRINTED[case] if words not in text] == []


@pytest.mark.parametrize("siunitx", [r"\usepackage{siunitx}", VERSION_2])
def test_tables_drop_into_a_paper_with_either_siunitx(siunitx: str, tmp_path: Path) -> None:
    if siunitx == VERSION_2 and shutil.which("kpsewhich"):
        found = subprocess.run(["kpsewhich", "siunitx-v2.sty"], capture_output=True, text=True, check=False).stdout
        if not found:
            pytest.skip("version 2 of siunitx is not installed")
    inside = [body(latex(CASES[case])) for case in ("few", "notes", "missing", "one column", "awkward")]
    numbers = body(latex(CASES["numbers"]))
    head = [r"\documentclass{article}", r"\usepackage[textwidth=560pt]{geometry}", r"\usepackage{booktabs}", siunitx]
    text = printed(tmp_path, "\n".join([*head, r"\nofiles\begin{document}", *inside, numbers, r"\end{document}"]))
    wanted = [words for case in ("few", "notes", "numbers") for words in PRINTED[case]]
    assert not text or [words for words in wanted if words not in text] == []


def test_any_text_compiles(tmp_path: Path) -> None:
    texts: list[str] = []

    @settings(max_examples=100, database=None, derandomize=True, deadline=None)
    @given(st.text(max_size=30))
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    rows = [Row(text, text, (Cell(text[:3], "", "†"), Cell("1.0", "0.1", text[:3])), more=(text,)) for text in texts]
    columns = [max(texts, key=len), min(texts, key=len)]
    printed(tmp_path, latex(table(columns, rows, ("Category", "Method"))))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & 50% #1", r"a\_b \& 50\% \#1"),
        ("<x|y>", "$<$x$|$y$>$"),
        ("Müller é", r"M\"{u}ller \'{e}"),
        ("Mu\u0308ller", r"M\"{u}ller"),
        ("キ", "{[}U+30AD]"),
        ("{\\}", r"$\{$$\backslash$$\}$"),
        ("two\nlines\x07", "two lines{[}U+0007]"),
        ("*[1]", "{*}{[}1]"),
        ("--fast ?`", "-{}-fast ?{}`"),
        ("1 ± 2 µm †", r"1 $\pm$ 2 $\mu$m $\dagger$"),
    ],
)
def test_text_is_escaped(text: str, escaped: str) -> None:
    assert latex_text(text) == escaped


@given(st.text())
@example(AWKWARD)
def test_any_text_becomes_harmless_ascii(text: str) -> None:
    escaped = latex_text(text)
    assert escaped.isascii()
    assert escaped.isprintable()
    outside_math = re.sub(r"\$[^$]*\$", "", re.sub(r"\\[%&#_$]", "", escaped))
    plain = re.sub(r"\\(?:[a-zA-Z]+|['\"`^~=.])", "", outside_math)
    assert not set(plain) & set("\\%&#_~^<>|$")
    assert plain.count("{") == plain.count("}")


@pytest.mark.parametrize(
    ("means", "spec"),
    [
        (("97.1", "100.0"), "S[table-format=3.1]"),
        (("97.12", "-1.3"), "S[table-format=-2.2]"),
        (("+1.20", "−11.30", "0.00"), "S[table-format=+2.2]"),
        (("104", "7"), "S[table-format=3.0]"),
        (("97.1", "< 0.1"), "S[table-format=2.1]"),
        (("inf", "12.3 [11, 14]", "1e5", "٣"), "c"),
    ],
)
def test_columns_are_as_wide_as_their_numbers(means: tuple[str, ...], spec: str) -> None:
    assert rf"\begin{{tabular}}{{l{spec}}}" in latex(one(None, *map(Cell, means)))
    noted = latex(one(*map(Cell, means), Cell("1", "0", "†")))
    assert spec == "c" or "]@{}l}" in noted


@pytest.mark.parametrize(
    ("cell", "printed"),
    [
        (None, r"\multicolumn{2}{c}{--}"),
        (Cell("97.1"), "97.1 & "),
        (Cell("97.1", "0.0"), r"97.1 & \,$\pm$\,0.0"),
        (Cell("97.1", "0.2", "†"), r"97.1 & \,$\pm$\,0.2\,$\dagger$"),
        (Cell("97.1", "0.2", "(n=7)", bold=True), r"\best 97.1 & {\best\,$\pm$\,0.2}~(n=7)"),
        (Cell("97.1", "0.2", underlined=True), r"97.1 {\better{97.1}} & \underline{\,$\pm$\,0.2}"),
        (Cell("−3.4", note="°"), r"-3.4 & \,$^\circ$"),
        (Cell("12.3 [-11, 14]", "0.2", "°"), r"\multicolumn{2}{c}{12.3 {[}$-$11, 14]\,$\pm$\,0.2\,$^\circ$}"),
        (Cell("< 0.1", bold=True), r"\multicolumn{2}{c}{{\best $<$ 0.1}}"),
    ],
)
def test_cells(cell: Cell | None, printed: str) -> None:
    assert f"category 1 & {printed} \\\\\n" in latex(one(Cell("1.0", "0.1"), cell))


def test_cells_of_bare_numbers_take_one_column() -> None:
    lines = latex(one(Cell("97.1", bold=True), None, Cell("text"), Cell("5", underlined=True))).splitlines()
    found = [line.partition(" & ")[2] for line in lines if line.startswith("category")]
    assert found == [r"\best 97.1 \\", r"{--} \\", r"{text} \\", r"5 {\better{5}} \\"]


@pytest.mark.parametrize("case", CASES)
def test_every_row_has_all_columns(case: str) -> None:
    document = latex(CASES[case])
    for spec, text in re.findall(r"\\begin\{tabular\}\{(l[^\n]*)\}\n\\toprule(.*?)\\bottomrule", document, re.DOTALL):
        columns = len(re.findall("[lcS]", re.sub(r"\[.*?\]", "", spec)))
        for row in re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "", text).split("\\\\\n")[:-1]:
            if r"\textit" not in row and r"\quad" not in row:  # a title, the rest of a long label
                assert len(re.findall(r"(?<!\\)&", row)) + row.count(r"\multicolumn{2}") == columns - 1
    assert document.count(r"\begin{") == document.count(r"\end{")
    assert document.isascii()


def test_a_small_table_stays_plain() -> None:
    document = latex(CASES["few"])
    assert document == latex(CASES["few"])
    assert document.count(r"\begin{table}") == 1
    assert "landscape" not in document
    assert r"\caption[{Image AUROC}]{Image AUROC, in percent: mean $\pm$" in document
    assert r"\label{tab:image_auroc}" in document
    assert document.index(r"\caption") < document.index(r"\toprule")
    assert document.count(r"\addlinespace") == 1
    assert r"\begin{tabular}[b]{@{}c@{}}method1 (fdfa=false, \\ loss=truncated\_l1)\end{tabular}" in document


def test_a_wide_table_lies_on_its_side_before_it_is_split() -> None:
    document = latex(wide(5, 3, ("toy",)))
    assert document.count(r"\begin{table}") == 1
    assert r"\usepackage[landscape," in document
    assert "sidewaystable" in body(document)


def test_a_very_wide_table_is_split_into_blocks_of_columns() -> None:
    parts = latex(CASES["many"]).split(r"\begin{table}")[1:]
    assert len(parts) > 1
    assert [r"\caption" in part for part in parts] == [True] + [False] * (len(parts) - 1)
    assert all("(continued): Image AUROC" in part for part in parts[1:])
    assert sorted(int(i) for part in parts for i in re.findall(r"method(\d+)", part)) == list(range(20))
    assert all(part.count(r"category\_14 &") == 2 for part in parts)
    sizes = [len(re.findall(r"method\d+", part)) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_long_table_is_split_between_categories() -> None:
    parts = latex(CASES["tall"]).split(r"\begin{table}")[1:]
    named = [re.findall(r"^category (\d+) &", part, re.MULTILINE) for part in parts]
    assert len(parts) > 1
    assert [int(i) for part in named for i in part] == list(range(40))
    assert all(part.count(r"\textit{toy}") == 1 for part in parts)
    assert all(
        len(re.findall(r"& method \d &", part)) == 3 * len(names)
        for part, names in zip(parts[:-1], named[:-1], strict=True)
    )
    assert max(part.count(r"\\") for part in parts) <= 70


def test_more_floats_than_latex_holds_are_let_go_in_between() -> None:
    document = latex(tall(850, 1, ["a"]))
    assert document.count(r"\begin{table}") > 20
    assert r"\clearpage" in document

"""Write a table as Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
import unicodedata

from harness.report.tables import Cell, Row, Table

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # \textquotedbl needs T1 fonts
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "…": r"\ldots{}",
}
LATEX_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u030a": "r",
    "\u030c": "v",
    "\u0327": "c",
}
WIDE = 5  # methods; more go on a landscape page


def markdown(table: Table) -> str:
    """Return the table in GitHub-flavoured Markdown, without title and caption."""
    grouped = len({row.group for row in table.rows}) > 1
    head = [*(["Data set"] if grouped else []), *table.heads, *table.columns]
    lines = [_markdown_line([markdown_text(text) for text in head])]
    lines.append(_markdown_line(["---"] * (len(head) - len(table.columns)) + ["---:"] * len(table.columns)))
    for row in table.rows:
        label = f"*{markdown_text(row.label)}*" if row.is_mean else markdown_text(row.label)
        start = [*([markdown_text(row.group)] if grouped else []), label, *map(markdown_text, row.more)]
        lines.append(_markdown_line(start + [_markdown_cell(cell) for cell in row.cells]))
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is: no HTML, table bar, emphasis or link of its own."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _markdown_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    number = f"{cell.mean} ± {cell.std}" if cell.std else cell.mean
    return " ".join(filter(None, [f"**{number}**" if cell.bold else number, cell.note]))


def latex(table: Table) -> str:
    """Return a LaTeX document of the table alone: compile it, or copy what stands between its two marks."""
    landscape = "[landscape]" if len(table.columns) > WIDE else ""
    columns = len(table.columns)
    lines = [
        r"\documentclass{article}",
        rf"\usepackage{landscape}{{geometry}}",
        r"\usepackage{booktabs}",
        r"\usepackage{graphicx}",
        r"\begin{document}",
        r"% --- the table begins; it needs booktabs and graphicx",
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{latex_text(table.caption)}}}",
        r"\medskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * len(table.heads)}{'r' * columns}}}",
        r"\toprule",
        " & ".join(map(latex_text, [*table.heads, *table.columns])) + r" \\",
        *_latex_rows(table),
        r"\bottomrule",
        r"\end{tabular}%",
        r"}",
        r"\end{table}",
        r"% --- the table ends",
        r"\end{document}",
    ]
    return "\n".join(lines) + "\n"


def _latex_rows(table: Table) -> list[str]:
    lines: list[str] = []
    group, last = None, None
    for row in table.rows:
        if row.group != group:
            group = row.group
            title = (
                rf"\multicolumn{{{len(table.heads) + len(table.columns)}}}{{l}}{{\textit{{{latex_text(group)}}}}} \\"
            )
            lines += [r"\midrule", title]
        if row.is_mean and not (last and last.is_mean):
            lines.append(r"\addlinespace")
        lines.append(_latex_row(row))
        last = row
    return lines


def _latex_row(row: Row) -> str:
    return " & ".join([*map(latex_text, [row.label, *row.more]), *map(_latex_cell, row.cells)]) + r" \\"


def _latex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    number = rf"{cell.mean} \pm {cell.std}" if cell.std else cell.mean
    number = rf"{{\boldmath${number}$}}" if cell.bold else f"${number}$"
    return " ".join(filter(None, [number, latex_text(cell.note)]))


def latex_text(text: str) -> str:
    """Return text that pdflatex prints as it is, in pure ASCII; a letter its fonts lack becomes its code point."""
    return "".join(_latex_letter(letter) for letter in " ".join(text.split()))


def _latex_letter(letter: str) -> str:
    if letter in LATEX_SPECIAL:
        return LATEX_SPECIAL[letter]
    if letter.isascii():
        return letter
    base, *accents = list(unicodedata.normalize("NFD", letter))
    if base.isascii() and len(accents) == 1 and accents[0] in LATEX_ACCENTS:
        return rf"\{LATEX_ACCENTS[accents[0]]}{{{base}}}"
    return f"[U+{ord(letter):04X}]"


def csv(table: Table) -> str:
    """Return the numbers behind the table, one row a cell, unrounded."""
    tidy = table.numbers.drop(columns=["run_ids", "is_mean"]).rename(columns={"label": "method"})
    return str(tidy.to_csv(index=False))

"""Write a table as LaTeX that drops into a paper: numbers aligned, no part wider or longer than a page.

The deviation stands in a column of its own instead of being siunitx's uncertainty: version 2 refuses `65 +- 0`, version
3 leaves `+- 0.0` out, and 3.2 sets part of a bold one light. What is used here reads alike in all of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

from harness.report.tables import Cell, Row, Table

SPECIAL = {  # signs in math, for text fonts lack some of them in italics
    "\\": r"$\backslash$", "{": r"$\{$", "}": r"$\}$", "<": "$<$", ">": "$>$", "|": "$|$", "$": r"\$", "&": r"\&",
    "%": r"\%", "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "×": r"$\times$", "·": r"$\cdot$", "≤": r"$\leq$", "≥": r"$\geq$", "−": "$-$", "†": r"$\dagger$",
    "‡": r"$\ddagger$", "°": r"$^\circ$", "μ": r"$\mu$", "µ": r"$\mu$", "…": r"\ldots{}", "–": "--", "—": "---",
    "‘": "`", "’": "'", "“": "``", "”": "''", '"': "''", "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}",
    "Æ": r"\AE{}", "ł": r"\l{}", "Ł": r"\L{}",
    "[": "{[}", "*": "{*}",  # else options, after \\
}  # fmt: skip
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
NUMBER = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?")
JOINED = "-–—`'‘’“”\"?!,"  # two of them may make a ligature
LETTERS = {  # about how wide, in em
    0.3: "ijl.,:;'`|! ",
    0.42: "()[]-fIrst",
    0.5: "0123456789acegoz_/?",
    0.57: "bdhknpquvxy",
    0.8: "ABCDEFGHJKLNOPQRSTUVXYZ#&+<=>\\±×−†‡",
    1.0: "mwMW@%…—",
}
EMS = {letter: width for width, letters in LETTERS.items() for letter in letters}
BREAKS = (r"(?<=[ ,])", r"(?<=[-_/=:])", r"(?<=.)")  # where a line may end, the best places first
HEAD, LABEL, LABELS, TITLE = 10.0, 15.0, 24.0, 16.0  # room in em: a head, a leading column, all of them, a title
BATCH = 20  # floats between which a page is cleared: more wait in vain


class Page(NamedTuple):
    """A page of a paper and a size of letters on it, in points."""

    size: str
    em: float
    line: float
    gap: float
    width: float = 345.0  # of article
    height: float = 550.0


SIZES = ((r"\normalsize", 10.0, 12.0, 6.0), (r"\small", 9.25, 11.0, 5.0), (r"\footnotesize", 8.5, 9.5, 4.0))
PAGES = (*(Page(*size) for size in SIZES), *(Page(*size, width=550.0, height=345.0) for size in SIZES))


class Column(NamedTuple):
    """How a column is set: one or two columns of LaTeX."""

    place: int  # among the table's
    head: list[str]  # lines
    format: str  # of its numbers, empty for text
    double: bool  # deviations and notes stand in a second one
    ems: float

    @property
    def spec(self) -> str:
        """What stands for it in the argument of tabular."""
        number = rf"S[table-format={self.format}]" if self.format else "c"
        return number + ("@{}l" if self.double else "")


class Part(NamedTuple):
    """What one float shows: some rows, some columns, and how wide that is in em."""

    rows: list[Row]
    columns: list[Column]
    ems: float


def latex(table: Table) -> str:
    """Return a LaTeX document of the table alone: compile it, or copy what stands between its two marks.

    The largest letters with which it takes the fewest floats are chosen: on an upright page, then on one on its side.
    """
    columns = [_column(i, head, [row.cells[i] for row in table.rows]) for i, head in enumerate(table.columns)]
    page, parts = min(((page, _parts(table, columns, page)) for page in PAGES), key=lambda plan: _cost(*plan))
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\usepackage{siunitx}", r"\nofiles"]
    mark = f"% --- the table begins; it needs booktabs, siunitx (2 or 3) and a text {page.width:g} pt wide"
    if page.width > page.height:
        lines.append(rf"\usepackage[landscape,textwidth={page.width:g}pt,textheight={page.height:g}pt]{{geometry}}")
        mark += ": put sidewaystable, of the package rotating, for table"
    lines += [r"\begin{document}", mark]
    for number, part in enumerate(parts):
        lines += [r"\clearpage"] if number and number % BATCH == 0 else []
        lines += _float(table, part, page, continued=number > 0)
    return "\n".join([*lines, "% --- the table ends", r"\end{document}"]) + "\n"


def _cost(page: Page, parts: Sequence[Part]) -> tuple[bool, int]:
    return any(part.ems * page.em > page.width for part in parts), len(parts)


def _column(place: int, head: str, cells: Sequence[Cell | None]) -> Column:
    present = [cell for cell in cells if cell]
    found = [(number, cell) for cell in present if (number := _number(cell))]
    lines = _lines(head, HEAD)
    ems = max(map(_ems, [*lines, *(f"{cell.mean} ± {cell.std} {cell.note}" for cell in present if not _number(cell))]))
    if not found:
        return Column(place, lines, "", False, ems)
    sign = max((number[1] for number, _ in found), key=["", "-", "+"].index)
    whole, decimals = (max(len(number[i] or "") for number, _ in found) for i in (2, 3))
    width = _ems(f"{sign}{'0' * whole}.{'0' * decimals}") + (whole + decimals) / 18  # thousands set apart
    double = any(cell.std or cell.note for cell in present)
    if double:
        width += max(_ems(f" ±{cell.std} {cell.note}" if cell.std else f" {cell.note}") for _, cell in found)
    width += 0.4 * any(cell.bold for cell in present)
    return Column(place, lines, f"{sign}{whole}.{decimals}", double, max(ems, width))


def _number(cell: Cell) -> re.Match[str] | None:
    return NUMBER.fullmatch(cell.mean.replace("−", "-"))


def _parts(table: Table, columns: Sequence[Column], page: Page) -> list[Part]:
    """Split a table into floats that fit the page: columns anywhere, rows between categories."""
    gap = 2 * page.gap / page.em
    leads = [table.heads, *([row.label, *row.more] for row in table.rows)]
    lead = sum(max(_lead_width(text, table) for text in texts) + gap for texts in zip(*leads, strict=True))
    widths = [column.ems + gap for column in columns]
    blocks = _runs(widths, page.width / page.em - lead)
    ems = [lead + sum(widths[i] for i in block) for block in blocks]

    caption = 3 + _ems(table.caption) / (page.width / 10.0)  # lines of it, and what is left free around it
    heads = max([1, *(len(column.head) for column in columns)])
    room = 0.95 * (page.height - 12.0 * caption) / page.line - heads - 3  # rules and a repeated title
    categories = list(_categories(table, room))
    space = 0.5 * _several(table)
    heights = [sum(_height(row, table) for row in rows) + space for rows in categories]
    for i, rows in enumerate(categories):
        if i == 0 or rows[0].group != categories[i - 1][0].group:
            heights[i] += 1 + len(_title(rows[0].group, min(ems)))
    return [
        Part([row for i in run for row in categories[i]], [columns[i] for i in block], width)
        for run in _runs(heights, room)
        for block, width in zip(blocks, ems, strict=True)
    ]


def _runs(sizes: Sequence[float], room: float) -> list[list[int]]:
    """Split sizes into the fewest runs that fit the room, as even as can be; return the runs' indices."""

    def filled(limit: float) -> list[list[int]]:
        runs: list[list[int]] = [[]]
        used = 0.0
        for i, size in enumerate(sizes):
            if runs[-1] and used + size > limit:
                runs.append([])
                used = 0.0
            runs[-1].append(i)
            used += size
        return runs

    fewest = filled(room)
    evener = (filled(room * share / 20) for share in range(1, 20))
    return next((runs for runs in evener if len(runs) == len(fewest)), fewest)


def _categories(table: Table, room: float) -> Iterator[list[Row]]:
    """Yield the rows that stay together: a category's, and mean rows with the last one; not more than fit the room."""
    rows: list[Row] = []
    for row in table.rows:
        other = rows and (row.group != rows[-1].group or (row.label != rows[-1].label and not row.is_mean))
        if other or sum(_height(each, table) for each in [*rows, row]) > room:
            yield rows
            rows = []
        rows.append(row)
    yield rows


def _several(table: Table) -> bool:
    """Whether a category has several rows."""
    return any((a.group, a.label) == (b.group, b.label) for a, b in pairwise(table.rows))


def _height(row: Row, table: Table) -> int:
    return max(len(_lead(text, table)) for text in (row.label, *row.more))


def _float(table: Table, part: Part, page: Page, continued: bool) -> Iterator[str]:
    yield from (r"\begin{table}[htbp]", r"\centering\hbadness=10000")  # LaTeX sets captions loosely
    title = latex_text(table.title)
    if continued:
        yield rf"\tablename~\thetable{{}} (continued): {title}\par"
    else:
        label = re.sub(r"[^A-Za-z0-9_.-]+", "-", table.name)
        yield from (rf"\caption[{{{title}}}]{{{latex_text(table.caption)}}}", rf"\label{{tab:{label}}}")
    yield r"\medskip"
    yield from _setup(table, signed=any(column.format[:1] in ("+", "-") for column in part.columns))
    if page.size != r"\normalsize":
        yield rf"{page.size}\setlength{{\tabcolsep}}{{{page.gap:g}pt}}"
    yield rf"\begin{{tabular}}{{{'l' * len(table.heads)}{''.join(column.spec for column in part.columns)}}}"
    yield r"\toprule"
    yield "\n & ".join([*map(latex_text, table.heads), *map(_head, part.columns)]) + r" \\"
    yield from _body(table, part)
    yield from (r"\bottomrule", r"\end{tabular}", r"\end{table}")


def _setup(table: Table, signed: bool) -> Iterator[str]:
    """Yield what siunitx is told, in words that its versions 2 and 3 understand, and how cells are set off."""
    cells = [cell for row in table.rows for cell in row.cells if cell]
    mode = "math" if signed else "text"  # text has bold figures as wide as light ones, but not in every font a minus
    yield rf"\sisetup{{mode={mode}, detect-weight=true, retain-explicit-plus=true, table-align-text-post=false}}"
    if any(cell.bold for cell in cells):
        yield r"\protected\def\best{\fontseries{b}\selectfont}"
    if any(cell.underlined for cell in cells):
        yield r"\def\better#1{\llap{\underline{\phantom{\num{#1}}\vphantom{$\pm$}}}}"


def _head(column: Column) -> str:
    text = r" \\ ".join(map(latex_text, column.head))
    if len(column.head) > 1:
        text = rf"\begin{{tabular}}[b]{{@{{}}c@{{}}}}{text}\end{{tabular}}"
    return rf"\multicolumn{{2}}{{c}}{{{text}}}" if column.double else f"{{{text}}}"


def _body(table: Table, part: Part) -> Iterator[str]:
    """Yield the rows: data sets under their titles, a category that has several rows named once, means set off."""
    over = len(table.heads) + sum(1 + column.double for column in part.columns)
    several = _several(table)
    last: Row | None = None
    for row in part.rows:
        if last is None or row.group != last.group:
            yield r"\midrule"
            for line in _title(row.group, part.ems):
                yield rf"\multicolumn{{{over}}}{{l}}{{\textit{{{latex_text(line)}}}}} \\"
            last = None
        again = last is not None and row.label == last.label
        if last and not again and (several or (row.is_mean and not last.is_mean)):
            yield r"\addlinespace"
        leads = [_lead(text, table) for text in ("" if again else row.label, *row.more)]
        first, *others = zip_longest(*leads, fillvalue="")
        cells = [_cell(row.cells[column.place], column) for column in part.columns]
        yield " & ".join([*map(latex_text, first), *cells]) + r" \\"
        for lines in others:
            yield " & ".join(rf"\quad {latex_text(text)}" if text else "" for text in lines) + r" \\"
        last = row


def _cell(cell: Cell | None, column: Column) -> str:
    number = _number(cell) if cell else None
    if cell is None or not number:
        text = _text(cell) if cell else "--"
        return rf"\multicolumn{{2}}{{c}}{{{text}}}" if column.double else f"{{{text}}}"
    best = r"\best " if cell.bold else ""
    better = rf" {{\better{{{number[0]}}}}}" if cell.underlined else ""
    if not column.double:
        return best + number[0] + better
    std = _deviation(cell)
    std = rf"\underline{{{std}}}" if std and cell.underlined else std
    std = rf"{{\best{std}}}" if std and cell.bold else std
    return f"{best}{number[0]}{better} & {std}{_note(cell)}"


def _text(cell: Cell) -> str:
    """Return a cell that is no plain number, in one piece."""
    text = _figures(cell.mean) + _deviation(cell)
    if cell.underlined:
        text = rf"\underline{{{text}}}"
    return (rf"{{\best {text}}}" if cell.bold else text) + _note(cell)


def _deviation(cell: Cell) -> str:
    return rf"\,$\pm$\,{_figures(cell.std)}" if cell.std else ""


def _note(cell: Cell) -> str:
    return ("~" if cell.note[0] in "([" else r"\,") + _figures(cell.note) if cell.note else ""


def _figures(text: str) -> str:
    """Return text with its hyphens before figures as minus signs."""
    return latex_text(re.sub(r"(?<![\w.])-(?=[\d.])", "−", text))


def _title(group: str, ems: float) -> list[str]:
    return _lines(group, max(ems, TITLE))


def _lead(text: str, table: Table) -> list[str]:
    return _lines(text, min(LABEL, LABELS / len(table.heads)))


def _lead_width(text: str, table: Table) -> float:
    first, *more = _lead(text, table)
    return max([_ems(first), *(1.0 + _ems(line) for line in more)])


def _lines(text: str, room: float, breaks: Sequence[str] = BREAKS) -> list[str]:
    """Break text into lines of at most `room` em."""
    lines = [""]
    for piece in re.split(breaks[0], " ".join(text.split())):
        if _ems(lines[-1] + piece.rstrip()) <= room:
            lines[-1] += piece
        elif _ems(piece.rstrip()) <= room or len(breaks) == 1:
            lines.append(piece)
        else:
            lines += _lines(piece, room, breaks[1:])
    return [line.strip() for line in lines if line.strip()] or [""]


def _ems(text: str) -> float:
    return sum(EMS.get(letter) or (4.6 if _letter(letter).startswith("{[}U") else 0.6) for letter in text)


def latex_text(text: str) -> str:
    """Return text that pdflatex prints as it is, in pure ASCII; a letter its fonts lack becomes its code point."""
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    followed = zip(text, text[1:] + " ", strict=False)
    return "".join(_letter(letter) + "{}" * (letter in JOINED and after in JOINED) for letter, after in followed)


def _letter(letter: str) -> str:
    if letter in SPECIAL:
        return SPECIAL[letter]
    if letter.isascii() and letter.isprintable():
        return letter
    base, *accents = list(unicodedata.normalize("NFD", letter))
    if base.isalpha() and base.isascii() and len(accents) == 1 and accents[0] in ACCENTS:
        return rf"\{ACCENTS[accents[0]]}{{{base}}}"
    return f"{{[}}U+{ord(letter):04X}]"

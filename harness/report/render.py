"""Write a table as Markdown and CSV."""

from __future__ import annotations

import re

from harness.report.tables import Cell, Table


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
    mean = f"<u>{cell.mean}</u>" if cell.underlined else cell.mean
    number = f"{mean} ± {cell.std}" if cell.std else mean
    return " ".join(filter(None, [f"**{number}**" if cell.bold else number, cell.note]))


def csv(table: Table) -> str:
    """Return the numbers behind the table, one row a cell, unrounded."""
    tidy = table.numbers.drop(columns=["run_ids", "is_mean"]).rename(columns={"label": table.of})
    return str(tidy.to_csv(index=False))

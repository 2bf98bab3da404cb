"""Compose `index.html`: the whole report in one file, which opens from disk and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from harness.report.content import Content, sections
from harness.report.facts import facts
from harness.report.figures import Figure
from harness.report.html_page.data import Details
from harness.report.tables import RESULTS, Cell, Row, Table

OPEN_TABLES = 3  # of the first section and the results; others are opened by hand, for the page would be endless
FIRST = 5  # holes and warnings that are shown before the rest has to be opened
PIXELS = 110  # an inch, of CSS: a figure as wide as a page of print takes 50 rem
DPI = 200  # of a PNG that does not tell
BREAKS = re.compile(r"(?<=[_,/])(?=\w)")  # where a browser may break a long name


class Picture(NamedTuple):
    """A figure, its PNG within the page, and its size in pixels of CSS."""

    figure: Figure
    source: str
    width: int
    height: int


class Gallery(NamedTuple):
    """The pictures of one category, in a dialog."""

    id: str
    dataset: str
    category: str
    pictures: list[Picture]


class ShownRow(NamedTuple):
    """A row of a table, with the gallery of its category and the dialog of each cell, if any."""

    row: Row
    gallery: Gallery | None
    cells: list[tuple[Cell | None, int | None]]


class ShownTable(NamedTuple):
    """A table with its rows by data set."""

    table: Table
    number: int
    is_open: bool
    groups: list[tuple[str, list[ShownRow]]]


class Section(NamedTuple):
    """A part of the page that has its own heading and place in the navigation."""

    id: str
    title: str
    tables: list[ShownTable]
    pictures: list[Picture]


def html(content: Content) -> str:
    """Return a report's page; its figures are read from `content.folder/figures`.

    A click on a number opens what is behind it, one on a category its pictures, one on a column's head sorts. Nothing
    is loaded from elsewhere, and the page's own policy forbids it: no text of a store can run or fetch anything.
    """
    pictures = [_picture(figure, content.folder / "figures") for figure in content.figures]
    galleries = _galleries(pictures)
    details = Details(content.study)
    style, script = _asset("page.css"), _asset("page.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            content=content,
            facts=[_parted(fact) for fact in facts(content.study)],
            impossible=_impossible(content),
            sections=_sections(content, pictures, galleries, details),
            galleries={name: list(of) for name, of in groupby(galleries.values(), key=lambda gallery: gallery.dataset)},
            data=Markup(details.json()),
            style=style,
            script=script,
            policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'",
            first=FIRST,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report", "html_page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _breakable, "url": quote, "id": _id}
    return environment


def _asset(name: str) -> Markup:
    """Return the style or script, as it stands between its tags."""
    return Markup(files("harness.report").joinpath("html_page", name).read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _breakable(text: str) -> Markup:
    """Return text whose long names a browser may break after their signs, without a hyphen."""
    return Markup("<wbr>").join(escape(part) for part in BREAKS.split(text))


def _id(text: str) -> str:
    """Return a text as a name for links within the page."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def _parted(fact: str) -> tuple[str, str]:
    """Return what a fact is of, and what it says."""
    subject, colon, text = fact.partition(": ")
    return (subject, text) if colon else ("", fact)


def _impossible(content: Content) -> dict[str, dict[str, int]]:
    """Return the cells that need what the public data lack: what they need, which they are, and of how many runs."""
    found: dict[str, dict[str, int]] = {}
    for needs, cells in content.study.impossible.items():
        places = found.setdefault(needs, {})
        for cell in cells:
            place = f"{cell.method} / {cell.dataset} / {cell.category}"
            places[place] = places.get(place, 0) + 1
    return found


def _picture(figure: Figure, folder: Path) -> Picture:
    """Return a figure in the size in which its text reads well, whatever the resolution of its PNG."""
    path = folder / f"{figure.name}.png"
    with Image.open(path) as image:
        scale = PIXELS / image.info.get("dpi", (DPI, DPI))[0]
        width, height = (round(length * scale) for length in image.size)
    return Picture(figure, f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", width, height)


def _galleries(pictures: Iterable[Picture]) -> dict[tuple[str, str], Gallery]:
    """Return the galleries by data set and category."""
    places: dict[tuple[str, str], list[Picture]] = {}
    for picture in pictures:
        if picture.figure.place:
            places.setdefault(picture.figure.place, []).append(picture)
    return {place: Gallery(f"gallery-{i}", *place, of) for i, (place, of) in enumerate(sorted(places.items()))}


def _sections(
    content: Content,
    pictures: Sequence[Picture],
    galleries: Mapping[tuple[str, str], Gallery],
    details: Details,
) -> list[Section]:
    """Return the sections in the order of the page; what has a gallery is shown there only."""
    shown = [picture for picture in pictures if not picture.figure.place]
    titles = sections(replace(content, figures=[picture.figure for picture in shown]))
    found = {title: Section(f"s-{_id(title)}", title, [], []) for title in titles}
    for number, table in enumerate(content.tables):
        tables = found[table.section].tables
        is_open = table.section in (RESULTS, titles[0]) and len(tables) < OPEN_TABLES
        tables.append(ShownTable(table, number, is_open, _groups(table, galleries, details)))
    for picture in shown:
        found[picture.figure.section].pictures.append(picture)
    return list(found.values())


def _groups(
    table: Table, galleries: Mapping[tuple[str, str], Gallery], details: Details
) -> list[tuple[str, list[ShownRow]]]:
    """Return a table's rows by data set, each cell with its dialog."""
    rows = [
        ShownRow(
            row,
            None if row.is_mean else galleries.get((row.group, row.label)),
            list(zip(row.cells, dialogs, strict=True)),
        )
        for row, dialogs in zip(table.rows, details.add(table), strict=True)
    ]
    return [(group, list(of)) for group, of in groupby(rows, key=lambda shown: shown.row.group)]

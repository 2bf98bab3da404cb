"""Pictures of heat maps: the same images through every method, and each method's worst mistakes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image as Picture
from PIL.Image import Image, Resampling

from harness.data.records import picture_name
from harness.report.artifacts import Artifacts
from harness.report.distributions import LABELS, RULES, Cell, Threshold, canvas, cells, sheets, threshold, within_budget
from harness.report.figures import WIDTH, Figure, looks, pyplot
from harness.report.roc import Names, pages

GALLERIES, MISTAKES = "Galleries", "Worst mistakes"  # sections of the page
IMAGES = 6  # rows of a gallery, one of them good
RANKS = 3  # worst images of either kind
DPI = 120  # of the PNGs
BITS, BYTES = (6, 5, 4), 600_000  # of a PNG's colours: the most that keep it as small as that
TALLEST = 8.7  # inches: a page
GAP, LINE = 0.06, 0.115  # inches: between pictures; a line of 7 pt
LETTER, WIDE = 0.059, 0.064  # inches: a letter of 7 pt, on average and in names of many m and w
WIDEST = 1.15  # inches: a picture in a gallery
SMALL, APART = 0.76, 0.15  # inches: a picture of a mistake; between the two kinds
HEAD = 0.25  # inches: over the mistakes
PRINT = 200  # pixels an inch, at most
RANKED = range(1, RANKS + 1)
SEVEN: dict[str, Any] = {"fontsize": 7, "linespacing": 1.15}
UNDER = SEVEN | {"ha": "center", "va": "top"}
PICTURE = re.compile(r"(?:subset|(?P<worst>high_good|low_anomalous)_(?P<rank>[1-9]))_(?P<slug>.*)")
WRONG = "#c04e00"  # the palette's vermilion, darker for letters; the word says it, too
GALLERY = (
    "Test images with their defects outlined in green (left), and the heat maps of each method laid over them, by the "
    "last epoch of one seed: the same images for all methods, chosen by a hash of their content. Below each map: the "
    "image's score, and whether it is called rightly at the method's threshold (as under Score distributions). Colours "
    "span the 1st to the 99.9th percentile of a method's own maps, so they compare within a column only. Methods that "
    "see another part or size of an image show their own."
)
WORST = (
    "The good test images of the highest scores (left) and the anomalous ones of the lowest (right) by each method, "
    "the worst first, at the last epoch of one seed; defects are outlined in green, and below each image is its heat "
    "map. Whether an image is really called wrongly depends on the threshold, as under Score distributions. Colours "
    "span the 1st to the 99.9th percentile of a method's own maps."
)

Panels: TypeAlias = tuple[Image, Image]


class Shown(NamedTuple):
    """A test image as a run saw it."""

    name: str
    defect: str
    anomalous: bool
    score: float
    wrong: bool  # at the run's threshold

    @property
    def verdict(self) -> str:
        """What the threshold makes of it."""
        if self.anomalous:
            return "missed" if self.wrong else "found"
        return "false alarm" if self.wrong else "passed"


class Pictures(NamedTuple):
    """What a run shows: images by their slug, as outlined image and heat map."""

    images: dict[str, Shown]
    subset: dict[str, Panels]
    worst: dict[tuple[bool, int], tuple[str, Panels]]  # whether anomalous, rank -> slug, panels
    threshold: Threshold


def draw_galleries(runs: pd.DataFrame, artifacts: Artifacts, folder: Path) -> Iterator[Figure]:
    """Draw each category's gallery and worst mistakes into a folder, as PDF and PNG.

    Args:
        runs: those of :func:`harness.report.artifacts.scored_runs`.
        artifacts: of these runs; notes what is left out.
        folder: that exists.
    """
    names = Names()
    for cell in within_budget(cells(runs, artifacts), artifacts, f"{GALLERIES} and {MISTAKES.lower()}"):
        found = {label: _pictures(run_id, artifacts) for label, run_id in cell.run_ids.items()}
        place = (cell.dataset, cell.category)
        if slugs := _rows(list(found.values())):
            for page in sheets(cell, pages(list(cell.run_ids), LABELS)):
                name = names("gallery", *place)
                _draw_gallery(page, slugs, found, folder / name)
                yield Figure(name, page.title, _behind(page), GALLERIES, GALLERY, place)
        for page in sheets(cell, _fitting({label: of for label, of in found.items() if of.worst})):
            name = names("mistakes", *place)
            _draw_mistakes(page, found, folder / name)
            yield Figure(name, page.title, _behind(page), MISTAKES, WORST, place)


def folded(text: str, letters: int, most: int = 20) -> str:
    """Return a name in lines of so many letters, broken after a blank or a sign if possible; the rest is cut."""
    lines = [""]
    for part in re.findall(r"[^ _/,=]*[ _/,=]|[^ _/,=]+", " ".join(text.split())):
        while part:
            if len((lines[-1] + part).rstrip(" _/")) <= letters:  # which may stand out
                lines[-1] += part
                break
            if lines[-1]:
                lines.append("")
            else:
                lines[-1], part = part[:letters], part[letters:]
    lines = [line.strip() for line in lines]
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][: letters - 1] + "…"]
    return "\n".join(lines).replace("$", r"\$")


def _pictures(run_id: str, artifacts: Artifacts) -> Pictures:
    scores, chosen = artifacts.scores(run_id), threshold(run_id, artifacts)
    assert scores is not None
    rows = list(zip(scores["image"], scores["defect"], scores["label"], scores["score"], strict=True))
    names = [picture_name(image) for image in scores["image"]]
    count = Counter(names)
    images = {
        name: Shown(image, str(defect), bool(label), float(score), (float(score) >= chosen.value) != bool(label))
        for name, (image, defect, label, score) in zip(names, rows, strict=True)
        if count[name] == 1  # else nobody knows whose picture it is
    }
    found = Pictures(images, {}, {}, chosen)
    for path in artifacts.heatmaps(run_id):
        kind = PICTURE.fullmatch(path.stem)
        if kind is None or kind["slug"] not in images or int(kind["rank"] or 0) > RANKS:
            continue
        if (panels := artifacts.panels(run_id, path)) is None:
            continue
        if kind["rank"] is None:
            found.subset[kind["slug"]] = panels
        else:
            found.worst[kind["worst"] == "low_anomalous", int(kind["rank"])] = (kind["slug"], panels)
    return found


def _rows(several: Sequence[Pictures]) -> list[str]:
    """Return the images of a gallery: those that most methods have, of all kinds of defects in turn, and a good one."""
    count = Counter(name for of in several for name in of.subset)
    known = {name: of.images[name] for of in several for name in of.subset}
    usual = [name for name in sorted(count) if count[name] == max(count.values())]
    turn: Counter[str] = Counter()
    order = {}
    for name in usual:
        order[name] = (turn[known[name].defect], name)
        turn[known[name].defect] += 1
    ordered = sorted(usual, key=lambda name: order[name])
    anomalous = [name for name in ordered if known[name].anomalous]
    good = [name for name in ordered if not known[name].anomalous]
    chosen = anomalous[: IMAGES - min(len(good), 1)]
    return sorted(chosen) + good[: IMAGES - len(chosen)]


def _behind(cell: Cell) -> dict[str, list[str]]:
    return {label: [run_id] for label, run_id in cell.run_ids.items()}


def _draw_gallery(cell: Cell, slugs: Sequence[str], found: Mapping[str, Pictures], path: Path) -> None:
    columns = len(cell.run_ids) + 1
    blocks = min(3, max(1, int(WIDTH / (columns * 0.83 + APART))))  # of few methods, several images side by side
    count = -(-len(slugs) // blocks)
    lines = [list(slugs[i::count]) for i in range(count)]  # down each block
    aspects = [
        _aspect([of.subset[name] for of in found.values() for name in line if name in of.subset]) for line in lines
    ]
    width = min(WIDEST, (WIDTH - APART * blocks - GAP * columns * blocks) / columns / blocks)
    heads = [folded(text, int(width / WIDE)) for text in ("Image", *map(cell.called, cell.run_ids))]
    top = LINE * max(text.count("\n") + 1 for text in heads) + 2 * GAP
    below = 2 * LINE + 2 * GAP
    width = min(width, (TALLEST - top - below * count) / sum(aspects))
    whole = top + sum(width * aspect + below for aspect in aspects)
    margin = (WIDTH - blocks * columns * (width + GAP) + GAP - (blocks - 1) * APART) / 2
    lefts = [
        [margin + block * APART + (block * columns + column) * (width + GAP) for column in range(columns)]
        for block in range(blocks)
    ]
    with looks(), pyplot().rc_context({"image.composite_image": False}):
        figure = pyplot().figure(figsize=(WIDTH, whole))
        sheet, y = canvas(figure), whole - top
        for left, text in zip(chain(*lefts), heads * blocks, strict=True):
            sheet.text(left + width / 2, y + GAP, text, ha="center", va="bottom", **SEVEN)
        for line, aspect in zip(lines, aspects, strict=True):
            for places, name in zip(lefts, line, strict=False):
                _draw_row(sheet, name, cell, found, places, (y, width, width * aspect))
            y -= width * aspect + below
        _save(figure, sheet, path)


def _draw_row(
    sheet: Any,
    name: str,
    cell: Cell,
    found: Mapping[str, Pictures],
    lefts: Sequence[float],
    place: tuple[float, float, float],
) -> None:
    """Draw one image and its maps; `place` is the upper edge of their boxes, the width and the height."""
    top, width, height = place
    first = next(of for of in found.values() if name in of.subset)
    _put(sheet, first.subset[name][0], lefts[0], top, (width, height))
    letters, under = int((width + GAP) / LETTER), top - height - 0.03
    sheet.text(lefts[0] + width / 2, under, folded(_short(first.images[name].name), letters, 2), **UNDER)
    for left, label in zip(lefts[1:], cell.run_ids, strict=True):
        panels = found[label].subset.get(name)
        if panels is None:
            sheet.text(left + width / 2, top - height / 2, "no map", ha="center", va="center", **SEVEN)
        else:
            _put(sheet, panels[1], left, top, (width, height))
        _tell(sheet, left + width / 2, under, found[label].images.get(name))


def _fitting(found: Mapping[str, Pictures]) -> list[list[str]]:
    """Return the labels of each page of mistakes: as few pages as may be, evenly filled, none too tall."""
    heights = {label: _height(label, of) for label, of in found.items()}
    for most in range(LABELS, 1, -1):
        several = pages(list(found), most)
        if all(sum(heights[label] for label in page) <= TALLEST - HEAD for page in several):
            return several
    return pages(list(found), 1)


def _height(label: str, of: Pictures) -> float:
    pictures = 2 * SMALL * _aspect([panels for _, panels in of.worst.values()]) + 4 * LINE + 2 * GAP
    return max(pictures, 0.13 * (folded(label, 30).count("\n") + 2) + 4 * LINE)


def _draw_mistakes(cell: Cell, found: Mapping[str, Pictures], path: Path) -> None:
    heights = {label: _height(cell.called(label), found[label]) for label in cell.run_ids}
    whole = sum(heights.values()) + HEAD
    step = SMALL + GAP
    start = WIDTH - 2 * RANKS * step - APART
    lefts = {
        (bad, rank): start + (rank - 1 + RANKS * bad) * step + APART * bad for bad in (False, True) for rank in RANKED
    }
    with looks(), pyplot().rc_context({"image.composite_image": False}):
        figure = pyplot().figure(figsize=(WIDTH, whole))
        sheet = canvas(figure)
        for bad, text in enumerate(("Good images of the highest scores", "Anomalous images of the lowest scores")):
            middle = lefts[bool(bad), 1] + (RANKS * step - GAP) / 2
            sheet.text(middle, whole - HEAD + GAP, text, ha="center", va="bottom")
        y = whole - HEAD
        for label in cell.run_ids:
            of = found[label]
            _name_row(sheet, y, cell.called(label), of.threshold)
            high = SMALL * _aspect([panels for _, panels in of.worst.values()])
            for place, (name, panels) in of.worst.items():
                left, middle = lefts[place], lefts[place] + SMALL / 2
                _put(sheet, panels[0], left, y, (SMALL, high))
                _put(sheet, panels[1], left, y - high - GAP / 2, (SMALL, high))
                under, text = (
                    y - 2 * high - GAP / 2 - 0.03,
                    folded(_short(of.images[name].name), int((SMALL + GAP) / LETTER), 2),
                )
                sheet.text(middle, under, text, **UNDER)
                _tell(sheet, middle, under - LINE * (text.count("\n") + 1), of.images[name])
            y -= heights[label]
        _save(figure, sheet, path)


def _name_row(sheet: Any, top: float, label: str, chosen: Threshold) -> None:
    """Write at the left whose mistakes these are, and how many there are in all."""
    name, counts = folded(label, 30), chosen.counts
    sheet.text(GAP, top, name, va="top")
    facts = (
        f"Threshold {chosen.value:.3g}:\n{RULES[chosen.rule]}\nFalse alarms: {counts.fp} of {counts.fp + counts.tn}\n"
        f"Missed: {counts.fn} of {counts.fn + counts.tp}"
    )
    sheet.text(GAP, top - 0.13 * (name.count("\n") + 1) - 0.04, facts, va="top", **SEVEN)


def _tell(sheet: Any, x: float, top: float, shown: Shown | None) -> None:
    """Write the score of an image, and whether its threshold is right about it."""
    if shown is None:
        return
    sheet.text(x, top, f"{shown.score:.3g}", **UNDER)
    look = {"color": WRONG} if shown.wrong else {}
    sheet.text(x, top - LINE, shown.verdict, **UNDER, **look)


def _short(image: str) -> str:
    return image.removeprefix("test/").rpartition(".")[0] or image


def _aspect(several: Sequence[Panels]) -> float:
    """Return the height of boxes of width 1 that hold pictures well: of the highest, as far as it is not a tower."""
    return min(1.5, max(panels[0].height / panels[0].width for panels in several))


def _put(sheet: Any, picture: Image, left: float, top: float, box: tuple[float, float]) -> None:
    """Draw a picture as large as fits into a box, in inches."""
    scale = min(box[0] / picture.width, box[1] / picture.height)
    width, height = picture.width * scale, picture.height * scale
    if picture.width > width * PRINT:
        picture = picture.resize((round(width * PRINT), max(1, round(height * PRINT))), Resampling.LANCZOS)
    x, y = left + (box[0] - width) / 2, top - (box[1] - height) / 2
    sheet.imshow(np.asarray(_coarse(picture, BITS[0])), extent=(x, x + width, y - height, y), aspect="auto")


def _save(figure: Any, sheet: Any, path: Path) -> None:
    """Write a figure as PDF, whose pictures keep their pixels, and as a PNG small enough for a page of many."""
    for picture in sheet.images:
        picture.set_interpolation("none")
    figure.savefig(path.with_name(path.name + ".pdf"), metadata={"CreationDate": None})
    for picture in sheet.images:
        picture.set_interpolation("antialiased")
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    pyplot().close(figure)
    whole = Picture.open(drawn).convert("RGB")
    for bits in BITS:
        file = BytesIO()
        _coarse(whole, bits).save(file, "PNG", compress_level=6)
        if file.tell() <= BYTES:
            break
    path.with_name(path.name + ".png").write_bytes(file.getvalue())


def _coarse(picture: Image, bits: int) -> Image:
    """Return a picture whose colours have so many bits each, which compress better; white stays white."""
    steps = 2**bits - 1
    return picture.point([round(round(value * steps / 255) * 255 / steps) for value in range(256)] * 3)

"""A table beside the images: `<category>/metadata.csv`, one row an image, and what a data set does with its columns.

The column `image` holds the name below the category (`test/crack/000.png`); every other column is the user's: camera,
layout, time, part number, rotation.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from harness.data.records import Category, Sample
from harness.errors import DataError

METADATA_FILE = "metadata.csv"
IMAGE = "image"

Table = Mapping[str, Mapping[str, str]]  # sample name -> column -> value


class SelectionLike(Protocol):
    """What this module needs of `harness.schema.DatasetConfig`."""

    select: Any
    normals: Any
    rotation: str | None


def read_metadata(folder: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read a category's table; {} where there is none.

    Raises:
        DataError: the file cannot be read, has no column `image`, an image twice, or one that is not there.
    """
    path = folder / METADATA_FILE
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read as a table ({reason}): save it as CSV in UTF-8.") from error
    if IMAGE not in columns or len(set(columns)) != len(columns):
        raise DataError(f"{path} needs the column `{IMAGE}` and different names for the others, separated by commas.")
    table: dict[str, dict[str, str]] = {}
    known = set(names)
    for number, row in enumerate(rows, 2):
        name = row.pop(IMAGE)
        if None in row or None in row.values():
            raise DataError(f"{path}, row {number}: give every row a value a column.")
        if name not in known:
            raise DataError(f"{path}, row {number}: there is no image {name}; names are as test/crack/000.png.")
        if name in table:
            raise DataError(f"{path}, row {number}: {name} is there twice; leave one row.")
        table[name] = row
    return table


def column(category: Category, name: str) -> dict[str, str]:
    """Return a column's values by sample name.

    Raises:
        DataError: there is no such column, or an image has no value in it.
    """
    path = category.root / METADATA_FILE
    found = {sample: row[name] for sample, row in category.metadata.items() if name in row}
    if not found:
        columns = sorted({key for row in category.metadata.values() for key in row})
        there = f"it has {', '.join(columns)}" if columns else "there is no such table"
        raise DataError(f"{path} has no column {name!r}: {there}; name another column, or add this one.")
    lacking = [sample.name for sample in category.samples if not found.get(sample.name)]
    if lacking:
        raise DataError(f"{path} gives {lacking[0]} no {name}: add it, or leave the image out.")
    return found


def select(category: Category, dataset: SelectionLike) -> Category:
    """Return the category as the data set wants it: some of its images only, turned upright.

    `select` keeps the images whose columns have these values (one, or a list); `normals` does so with the good images
    and keeps all defective ones (paper 004, section 3.3: mobile cameras' defects serve the stationary ones too).
    `rotation` names the column of degrees by which an image has to be turned clockwise.

    Raises:
        DataError: a column or value that does not exist, or an angle that is no multiple of 90.
    """
    for key, wanted, all_images in (("select", dataset.select, True), ("normals", dataset.normals, False)):
        if not isinstance(wanted, Mapping | None):
            raise DataError(f"dataset.{key}={wanted} is not possible; give columns and values, as {{camera: mobile}}.")
        for name, values in (wanted or {}).items():
            category = _keep(category, name, values, all_images)
    return _turn(category, dataset.rotation) if dataset.rotation else category


def _keep(category: Category, name: str, values: Any, all_images: bool) -> Category:
    listed = values if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    wanted = {str(value).lower() if isinstance(value, bool) else str(value) for value in listed}
    of = column(category, name)
    kept = [s for s in category.samples if of[s.name] in wanted or (s.label and not all_images)]
    if absent := sorted(wanted - set(of.values())):
        there = ", ".join(sorted(set(of.values())))
        raise DataError(f"No image of {category.root} has {name}={absent[0]} in {METADATA_FILE}; values are {there}.")
    left_out = tuple(sample for sample in category.samples if sample not in set(kept))
    return replace(category, samples=tuple(kept), left_out=(*category.left_out, *left_out))


def _turn(category: Category, name: str) -> Category:
    degrees = column(category, name)
    return replace(
        category, samples=tuple(_turned(category, sample, degrees[sample.name]) for sample in category.samples)
    )


def _turned(category: Category, sample: Sample, degrees: str) -> Sample:
    try:
        turns, rest = divmod(float(degrees), 90)
    except ValueError:
        rest = 1
    if rest:
        raise DataError(
            f"{category.root / METADATA_FILE} turns {sample.name} by {degrees!r}: give degrees clockwise, "
            "a multiple of 90."
        )
    return replace(sample, turns=int(turns) % 4)

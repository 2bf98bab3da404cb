"""Images that belong together, and the order in which images were taken."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from harness.data.metadata import METADATA_FILE, column
from harness.data.records import Category, Sample
from harness.errors import DataError
from harness.schema import ProtocolConfig

BY_NAME = "name"
_SPLITS = ("train", "validation", "test")


def groups_of(category: Category, group: str | None) -> dict[str, str]:
    """Return the group of every sample by its name; {} where no group is asked for.

    `group` is a column of `metadata.csv`, or else a regular expression that is searched for in each file name without
    its ending: images are together that agree in what its parentheses enclose, or in all that it matches.

    Raises:
        DataError: it is neither, an image has no group, or every image one of its own.
    """
    if group is None:
        return {}
    found = column(category, group) if _is_column(category, group) else _by_name(category, group)
    if len({found[sample.name] for sample in category.samples}) == len(category.samples):
        raise DataError(
            f"protocol.group={group} keeps no two images of {category.root} together: give a pattern or column that "
            "images of one part share, or leave it out."
        )
    return found


def _by_name(category: Category, group: str) -> dict[str, str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise DataError(
            f"protocol.group={group} is no regular expression ({error}), nor a column of {METADATA_FILE}."
        ) from error
    found: dict[str, str] = {}
    for sample in category.samples:
        match = pattern.search(PurePosixPath(sample.name).stem)
        if match is None:
            raise DataError(
                f"protocol.group={group} is found nowhere in the name of {category.root / sample.name}, nor is it a "
                f"column of {METADATA_FILE}: give a pattern that all names have, with what tells groups in parentheses."
            )
        found[sample.name] = "\x1f".join(part or "" for part in match.groups()) or match[0]
    return found


def in_order(category: Category, samples: Sequence[Sample], order: str) -> list[Sample]:
    """Return samples as they were taken: by a column of `metadata.csv`, or by `name`.

    By name means: the data set's training images before its test images, and numbers in names by their value. A column
    is sorted as numbers where it holds nothing else, or else as text with whole numbers in it (so dates as 2024-05-31).

    Raises:
        DataError: there is no such column.
    """
    if order == BY_NAME:
        return sorted(samples, key=lambda s: (_SPLITS.index(s.split), _natural(PurePosixPath(s.name).name), s.name))
    values = column(category, order)
    key = _number if all(_number(value) is not None for value in values.values()) else _natural
    return sorted(samples, key=lambda sample: (key(values[sample.name]), sample.name))


def columns_used(category: Category, protocol: ProtocolConfig) -> dict[str, dict[str, str]]:
    """Return the columns of `metadata.csv` that decide a split: what a run's identity depends on besides pixels."""
    wanted = {protocol.group, protocol.order if protocol.order != BY_NAME else None} - {None}
    names = sorted(name for name in wanted if name is not None and _is_column(category, name))
    used = {name: column(category, name) for name in names}
    return {name: {sample.name: of[sample.name] for sample in category.samples} for name, of in used.items()}


def refuse_straddling(category: Category, groups: Mapping[str, str], protocol: str) -> None:
    """Refuse a data set's own split where images of a group lie on both sides of it.

    Raises:
        DataError: naming two such images.
    """
    trained = {groups[sample.name]: sample.name for sample in (*category.train, *category.validation)}
    for sample in category.test:
        if other := trained.get(groups[sample.name]):
            raise DataError(
                f"{category.root}: {other} and {sample.name} are of one protocol.group, but protocol={protocol} keeps "
                "the data set's own split, which trains on one and tests the other: choose protocol=validated or "
                "supervised."
            )


def _is_column(category: Category, name: str) -> bool:
    return any(name in row for row in category.metadata.values())


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts whole numbers in a text by their value."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]

"""What a data set is called in every table: as itself, or told apart where runs saw other images of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from harness.data.protocol_rules import OWN_TEST, drawn_as

UNSET = frozenset({"None", "{}"})
SUBSETS = {"dataset.select.": "", "dataset.normals.": "normals: "}  # params -> how their columns read


def given(params: Mapping[str, str], key: str) -> str | None:
    """Return a logged setting, or None for one that was left unset or that older runs did not know."""
    value = params.get(key, "None")
    return None if value in UNSET else value


def tests_on_own_images(protocol: str, params: Mapping[str, str]) -> bool:
    """Whether a protocol tests on all of a data set's test images, so that its runs compare with one-class ones."""
    return protocol in OWN_TEST and not given(params, "protocol.group") and not given(params, "protocol.order")


def draws_shares(protocol: str) -> bool:
    """Whether a protocol is one of those that draw the same test images for the same share of them."""
    return drawn_as(protocol) == drawn_as("supervised")


def tell_apart(records: list[dict[str, Any]]) -> list[str]:
    """Rename data sets and categories so that no mean is taken over, and no test made between, different images.

    A part of a data set, a turned one, and a protocol that draws test images of its own are data sets of their own; a
    category whose content differs between runs all the same becomes several, which is returned in sentences.
    """
    for record in records:
        for suffix in (_subset(record["params"]), _protocol(record["protocol"], record["params"])):
            if parts := ", ".join(suffix):
                record["dataset"] += f" ({parts})"
    prints: dict[tuple[str, str], set[str]] = {}
    for record in records:
        prints.setdefault((record["dataset"], record["category"]), set()).add(record["data_fingerprint"])
    for record in records:
        if len(prints[record["dataset"], record["category"]]) > 1:
            record["category"] += f" [data {record['data_fingerprint'][:8]}]"
    return [
        f"{dataset}/{category} was run on {len(found)} different contents of its images; each has its own row."
        for (dataset, category), found in sorted(prints.items())
        if len(found) > 1
    ]


def _subset(params: Mapping[str, str]) -> Iterator[str]:
    for prefix, words in SUBSETS.items():
        chosen = {k.removeprefix(prefix): v for k, v in sorted(params.items()) if k.startswith(prefix)}
        if chosen:
            yield words + ", ".join(f"{column}={_one_or_several(value)}" for column, value in chosen.items())
    if rotation := given(params, "dataset.rotation"):
        yield f"rotated by {rotation}"


def _one_or_several(value: str) -> str:
    """Return a logged value, a logged list as `a or b`."""
    if value.startswith("["):
        return " or ".join(str(item) for item in ast.literal_eval(value))
    return value


def _protocol(protocol: str, params: Mapping[str, str]) -> Iterator[str]:
    if tests_on_own_images(protocol, params):
        return
    words = {"test": "{} of the images tested", "folds": "{} folds", "defects": "{} of the defects"}
    words |= {"group": "grouped by {}", "order": "ordered by {}"}
    if not draws_shares(protocol):
        yield protocol
        words |= {"validation": "{} validation"}
    for key, text in words.items():
        if value := given(params, f"protocol.{key}"):
            yield text.format(value)

"""Protocols: which images train and which test. Draws depend on seed and data, never on the method."""

from __future__ import annotations

from dataclasses import dataclass

from harness.data.records import Category, Sample


@dataclass(frozen=True)
class Split:
    """The images of a run, by what they are for."""

    train: tuple[Sample, ...]
    test: tuple[Sample, ...]


def one_class(category: Category) -> Split:
    """Every normal training image trains, every test image tests; nothing is drawn."""
    return Split(train=category.train, test=category.test)

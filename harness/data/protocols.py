"""Protocols: which images train, validate and test. Draws depend on seed and data, never on the method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.data.records import Category, Sample
from harness.errors import DataError
from harness.schema import ProtocolConfig

Samples = tuple[Sample, ...]


@dataclass(frozen=True)
class Split:
    """The images of a run, by what they are for.

    Attributes:
        train: what a method learns from.
        test: what the result is measured on.
        validation: what epochs and thresholds are chosen on; empty where the protocol has none.
        held: what the method itself validates on while it trains; empty where it does not.
    """

    train: Samples
    test: Samples
    validation: Samples = ()
    held: Samples = ()


def split(category: Category, protocol: ProtocolConfig, seed: int) -> Split:
    """Return what a protocol makes of a category: labelled images everywhere, good and defective.

    `one_class`: every normal training image trains, every test image tests; nothing is drawn.
    `supervised`: all images are drawn anew, stratified (paper 004, section 3.3), here by the kind of defect.

    Raises:
        DataError: when a split would have no good or no defective image to train on or to test.
    """
    if protocol.name == "one_class":
        return Split(category.train, category.test)
    assert protocol.validation is not None and protocol.test is not None
    return _stratified(category, protocol.validation, protocol.test, seed)


def for_method(split: Split, supervised: bool, holdout: float | None, seed: int) -> Split:
    """Return the split as a method may see it.

    A one-class method learns from good images alone, and validates on good images alone. A method that validates while
    it trains (`holdout` not None) does so on the protocol's validation images, or, where there are none for it, on
    that share of its training images, drawn by the seed and taken out of the training.

    Raises:
        DataError: when nothing would be left to train on.
    """
    train, held = split.train, split.validation
    if not supervised:
        train, held = _good(train), _good(held)
    if holdout is None:
        held = ()
    elif holdout and not held:
        train, held = _hold_out(train, holdout, seed)
    return replace(split, train=train, held=held)


def _stratified(category: Category, validation: float, test: float, seed: int) -> Split:
    train, validate, tested = [], [], []
    for drawn in _shuffled_by_defect(category.samples, seed):
        tests = _count(len(drawn), test)
        ends = tests + _count(len(drawn) - tests, validation / (1 - test))
        tested += drawn[:tests]
        validate += drawn[tests:ends]
        train += drawn[ends:]
    for name, part in (("train on", train), ("test", tested)):
        if len({sample.label for sample in part}) < 2:
            raise DataError(
                f"{category.dataset}/{category.name} has too few images for protocol=supervised: there would not be "
                f"good and defective ones to {name}. Add images, or use protocol=one_class."
            )
    return Split(_sorted(train), _sorted(tested), _sorted(validate))


def _count(images: int, share: float) -> int:
    """Return the nearest whole number, but leave an image to train on, and take one where there are two."""
    return min(max(round(images * share), 1), images - 1)


def _hold_out(train: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
    kept, held = [], []
    for drawn in _shuffled_by_defect(train, seed):
        count = _count(len(drawn), share)
        held += drawn[:count]
        kept += drawn[count:]
    if not held:
        raise DataError("The method holds a part of its training images back, and there is only one: add images.")
    return _sorted(kept), _sorted(held)


def _shuffled_by_defect(samples: Sequence[Sample], seed: int) -> Iterator[list[Sample]]:
    """Yield the images of each kind in an order that the seed draws, whatever order they came in."""
    generator = np.random.default_rng(seed)
    kinds: dict[str, list[Sample]] = {}
    for sample in _sorted(samples):
        kinds.setdefault(sample.defect, []).append(sample)
    for kind in sorted(kinds):
        yield [kinds[kind][i] for i in generator.permutation(len(kinds[kind]))]


def _good(samples: Samples) -> Samples:
    return tuple(sample for sample in samples if not sample.label)


def _sorted(samples: Sequence[Sample]) -> Samples:
    return tuple(sorted(samples, key=lambda sample: sample.name))

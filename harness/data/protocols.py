"""Protocols: which images train, validate and test. Draws depend on seed and data, never on the method.

| protocol | training | validation | test |
|---|---|---|---|
| one_class | the data set's normal training images | a share of them, if asked for | all of the data set's |
| few_shot | `shots` of them; fewer shots are a part of more | – | all of the data set's |
| validated_synthetic | them, but a share | that share, and synthetic defects in copies of it | all of the data set's |
| validated | of all images: 70 % of the normal ones | 15 %, and 85 % of the defective ones | 15 % of each |
| supervised | of all images: 70 % of each kind | 15 % of each | 15 % of each |
| kfold | all folds but one | a share of them, if asked for | one fold |
| imbalance | as kfold, on a part of the defective images | | |

The share of the normal training images that `one_class` and `validated_synthetic` hold back is not drawn where the data
set has set images aside itself (MVTec LOCO): these are it, and all training images train.

Paper 004, section 3.3 and Table 2, has `validated` and `supervised` (with one test set for both: so here); paper 001,
section 4, ten folds and the part of the defective images; paper 002, section 6.3, the few shots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.data.groups import groups_of, in_order, refuse_straddling
from harness.data.records import Category, Sample
from harness.errors import DataError
from harness.schema import ProtocolConfig

Samples = tuple[Sample, ...]
Unit = tuple[Sample, ...]  # images that stay together: mostly one
Strata = dict[str, list[Unit]]  # kind of defect -> units, in the order in which they are drawn


@dataclass(frozen=True)
class Split:
    """The images of a run, by what they are for.

    Attributes:
        train: what a method learns from.
        test: what the result is measured on.
        validation: what epochs and thresholds are chosen on; empty where the protocol has none.
        held: what the method itself validates on while it trains; empty where it does not.
        groups: sample name -> group, where the protocol keeps groups together.
    """

    train: Samples
    test: Samples
    validation: Samples = ()
    held: Samples = ()
    groups: Mapping[str, str] = field(default_factory=dict)


def split(category: Category, protocol: ProtocolConfig, seed: int) -> Split:
    """Return what a protocol makes of a category: labelled images, good and defective, each in one part at most.

    Images are drawn for each kind of defect apart, so that all parts have the same share of each (a unit of several
    kinds is a kind of its own). With `protocol.group` whole groups are drawn: shares are then met as nearly as the
    sizes of groups allow. With `protocol.order` nothing is drawn: of each kind, the first images train, later ones
    validate, the last ones test.

    Raises:
        DataError: when a part would lack good or defective images, or a group cannot stay together.
    """
    draw = _Draw(category, protocol, seed, groups_of(category, protocol.group))
    found = _PROTOCOLS[protocol.name](draw)
    _refuse_one_sided(category, protocol, found)
    return replace(found, groups=draw.groups)


@dataclass(frozen=True)
class _Draw:
    """One draw: what it is made of, and in which order its units come."""

    category: Category
    protocol: ProtocolConfig
    seed: int
    groups: Mapping[str, str]

    def strata(self, samples: Iterable[Sample]) -> Strata:
        """Return samples by kind; those that come first go to the test, those that come last to the training."""
        if self.protocol.order is None:
            return dict(_shuffled(_units(samples, self.groups), self.seed))
        place = {s: i for i, s in enumerate(in_order(self.category, list(samples), self.protocol.order))}
        units = _units(place, self.groups)
        return {
            kind: sorted(of_kind, key=lambda unit: max(place[s] for s in unit), reverse=True)
            for kind, of_kind in units.items()
        }


def _own_split(draw: _Draw) -> Split:
    """Keep the data set's own test images; hold back a share of the normal training images if asked for."""
    category, share = draw.category, draw.protocol.validation
    if draw.groups:
        refuse_straddling(category, draw.groups, draw.protocol.name)
    if share is None:
        return Split(category.train, category.test)
    if category.validation:
        return Split(category.train, category.test, category.validation)
    train, held = _cut(draw.strata(category.train), share)
    if not held:
        raise DataError(
            f"{category.dataset}/{category.name} has too few normal training images to hold back "
            f"protocol.validation={share} of them: add images, or use protocol=one_class."
        )
    return Split(_sorted(train), category.test, _sorted(held))


def _few_shot(draw: _Draw) -> Split:
    category, shots = draw.category, draw.protocol.shots
    if draw.groups:
        refuse_straddling(category, draw.groups, draw.protocol.name)
    if shots == "all":
        return Split(category.train, category.test)
    if int(shots or 0) > len(category.train):
        raise DataError(
            f"{category.dataset}/{category.name} has {len(category.train)} normal training images, "
            f"fewer than protocol.shots={shots}: give fewer, or all."
        )
    alone = replace(draw, groups={})
    drawn = [sample for units in alone.strata(category.train).values() for (sample,) in units]
    if draw.protocol.order is not None:
        drawn.reverse()  # the first ones train
    return Split(_sorted(drawn[: int(shots or 0)]), category.test)


def _shares(draw: _Draw) -> Split:
    protocol = draw.protocol
    assert protocol.validation is not None and protocol.test is not None
    strata = draw.strata(draw.category.samples)
    train, tested = _cut_strata(strata, protocol.test)
    rest, validate = _cut_strata(train, protocol.validation / (1 - protocol.test))
    return Split(_flat(rest), _flat(tested), _flat(validate))


def _validated(draw: _Draw) -> Split:
    """Give the training's defective images, and what is grouped with them, to the validation."""
    drawn = _shares(draw)
    with_defects = {draw.groups.get(s.name, s.name) for s in drawn.train if s.label}
    moved = [s for s in drawn.train if draw.groups.get(s.name, s.name) in with_defects]
    kept = [s for s in drawn.train if draw.groups.get(s.name, s.name) not in with_defects]
    return Split(tuple(kept), drawn.test, _sorted([*drawn.validation, *moved]))


def _folds(draw: _Draw) -> Split:
    """Test one of k folds; nothing about it depends on which fold it is."""
    protocol = draw.protocol
    assert protocol.folds is not None and protocol.fold is not None
    strata = draw.strata(draw.category.samples)
    if protocol.defects is not None:
        strata = _keep_defects(strata, protocol.defects)
    dealt = _deal(strata, protocol.folds)
    train = {kind: [u for u in units if dealt[u] != protocol.fold] for kind, units in strata.items()}
    tested = [s for unit, fold in dealt.items() if fold == protocol.fold for s in unit]
    validate: Strata = {}
    if protocol.validation is not None:
        train, validate = _cut_strata(train, protocol.validation)
    return Split(_flat(train), _sorted(tested), _flat(validate))


_PROTOCOLS: dict[str, Callable[[_Draw], Split]] = {
    "one_class": _own_split,
    "few_shot": _few_shot,
    "validated_synthetic": _own_split,
    "validated": _validated,
    "supervised": _shares,
    "kfold": _folds,
    "imbalance": _folds,
}


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
        kept, drawn = _cut(dict(_shuffled(_units(train, split.groups), seed)), holdout)
        if not drawn:
            raise DataError("The method holds a part of its training images back, and there is only one: add images.")
        train, held = _sorted(kept), _sorted(drawn)
    return replace(split, train=train, held=held)


def _units(samples: Iterable[Sample], groups: Mapping[str, str]) -> Strata:
    """Return units of images by their kind, both sorted by name, whatever order they came in."""
    units: dict[str, list[Sample]] = {}
    for sample in _sorted(samples):
        units.setdefault(groups.get(sample.name, sample.name), []).append(sample)
    strata: Strata = {}
    for unit in units.values():
        strata.setdefault("+".join(sorted({sample.defect for sample in unit})), []).append(tuple(unit))
    return strata


def _shuffled(strata: Strata, seed: int) -> Iterator[tuple[str, list[Unit]]]:
    generator = np.random.default_rng(seed)
    for kind in sorted(strata):
        yield kind, [strata[kind][i] for i in generator.permutation(len(strata[kind]))]


def _cut_strata(strata: Strata, share: float) -> tuple[Strata, Strata]:
    """Part a share of the images of each kind from the rest: (rest, share)."""
    ends = {kind: _count(units, share) for kind, units in strata.items()}
    return (
        {kind: units[ends[kind] :] for kind, units in strata.items()},
        {kind: units[: ends[kind]] for kind, units in strata.items()},
    )


def _cut(strata: Strata, share: float) -> tuple[list[Sample], list[Sample]]:
    rest, cut = _cut_strata(strata, share)
    return list(_flat(rest)), list(_flat(cut))


def _count(units: Sequence[Unit], share: float) -> int:
    """Return how many units come nearest to a share of the images; of two or more at least one, never all."""
    sizes = np.cumsum([len(unit) for unit in units])
    target = round(float(sizes[-1]) * share) if len(units) else 0
    nearest = int(np.argmin(np.abs(sizes - target))) + 1 if len(units) else 0
    return max(0, min(nearest, len(units) - 1))


def _keep_defects(strata: Strata, share: float) -> Strata:
    """Keep a share of the defective images of each kind, at least a unit; what a smaller share keeps, a larger does."""
    kept: Strata = {}
    for kind, units in strata.items():
        defects = np.cumsum([sum(sample.label for sample in unit) for unit in units])
        count = len(units) if not defects[-1] else int(np.argmin(np.abs(defects - round(defects[-1] * share)))) + 1
        rest = [tuple(sample for sample in unit if not sample.label) for unit in units[count:]]
        kept[kind] = [*units[:count], *(unit for unit in rest if unit)]
    return kept


def _deal(strata: Strata, folds: int) -> dict[Unit, int]:
    """Give every unit a fold: the one with the fewest images of its kind, then of defective ones, then of all.

    Good images are dealt first, so that they lie in the same folds whatever part of the defective ones is kept (but
    for those that a group binds to defective ones).
    """
    dealt: dict[Unit, int] = {}
    defective, total = [0] * folds, [0] * folds
    for kind in sorted(strata, key=lambda kind: (kind != "good", kind)):
        of_kind = [0] * folds
        for unit in strata[kind]:
            fold = min(range(folds), key=lambda f: (of_kind[f], defective[f], total[f], f))
            dealt[unit] = fold
            of_kind[fold] += len(unit)
            defective[fold] += sum(sample.label for sample in unit)
            total[fold] += len(unit)
    return dealt


def _refuse_one_sided(category: Category, protocol: ProtocolConfig, found: Split) -> None:
    """Refuse a drawn split whose parts cannot do what they are for."""
    if found.test == category.test and not any(sample.label for sample in found.train):
        return  # the data set's own: checked with its images
    trains = (("train on", found.train),) if protocol.name != "validated" else ()
    for name, part in (*trains, ("test", found.test)):
        if len({sample.label for sample in part}) < 2:
            remedy = "Add images, or use protocol=one_class."
            if protocol.folds is not None:
                remedy = f"Add images, or give fewer protocol.folds than {protocol.folds}"
                remedy += "." if protocol.defects in (None, 1.0) else ", or a larger share of protocol.defects."
            raise DataError(
                f"{category.dataset}/{category.name} has too few images for protocol={protocol.name}: there "
                f"would not be good and defective ones to {name}. {remedy}"
            )


def _flat(strata: Strata) -> Samples:
    return _sorted(sample for units in strata.values() for unit in units for sample in unit)


def _good(samples: Samples) -> Samples:
    return tuple(sample for sample in samples if not sample.label)


def _sorted(samples: Iterable[Sample]) -> Samples:
    return tuple(sorted(samples, key=lambda sample: sample.name))

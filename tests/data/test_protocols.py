"""Protocols: splits are disjoint, complete, stratified, drawn by the seed alone; one-class methods see no defect."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.protocols import Split, for_method, split
from harness.data.records import Category, Sample
from harness.errors import DataError
from harness.schema import ProtocolConfig

SUPERVISED = ProtocolConfig("supervised", validation=0.15, test=0.15)

kinds = st.dictionaries(st.sampled_from(["crack", "hole", "scratch"]), st.integers(3, 40), min_size=1)
seeds = st.integers(0, 2**32 - 1)


def make_category(counts: dict[str, int], train: int = 20, test: int = 5) -> Category:
    samples = [Sample(Path(f"train/good/{i}.png"), f"train/good/{i}.png", "train", "good") for i in range(train)]
    for kind, count in {"good": test, **counts}.items():
        names = (f"test/{kind}/{i}.png" for i in range(count))
        samples += [Sample(Path(name), name, "test", kind) for name in names]
    return Category("made", "thing", Path("."), tuple(samples))


@given(kinds, st.integers(5, 60), seeds)
def test_a_supervised_split_is_complete_disjoint_and_stratified(counts: dict[str, int], train: int, seed: int) -> None:
    category = make_category(counts, train)
    drawn = split(category, SUPERVISED, seed)
    parts = (drawn.train, drawn.validation, drawn.test)
    names = Counter(sample.name for part in parts for sample in part)
    assert set(names) == {sample.name for sample in category.samples}
    assert set(names.values()) == {1}
    for kind, total in Counter(sample.defect for sample in category.samples).items():
        validation, test = (sum(s.defect == kind for s in part) for part in (drawn.validation, drawn.test))
        assert abs(test - 0.15 * total) <= 1 and abs(validation - 0.15 * total) <= 1.2
        assert test >= 1 and validation >= 1


@given(kinds, seeds)
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_files(counts: dict[str, int], seed: int) -> None:
    category = make_category(counts)
    reversed_ = Category("made", "thing", Path("."), category.samples[::-1])
    assert split(category, SUPERVISED, seed) == split(reversed_, SUPERVISED, seed)
    assert len({split(category, SUPERVISED, s).test for s in range(5)}) > 1


def test_a_split_is_the_same_on_every_machine() -> None:
    drawn = split(make_category({"crack": 4}, train=4, test=2), SUPERVISED, 7)
    assert {name: [s.name for s in getattr(drawn, name)] for name in ("test", "validation")} == {
        "test": ["test/crack/0.png", "test/good/0.png"],
        "validation": ["test/crack/2.png", "test/good/1.png"],
    }


@given(kinds, seeds, st.sampled_from([None, 0.0, 0.05, 0.2]), st.sampled_from(["one_class", "supervised"]))
def test_a_one_class_method_sees_no_defect_and_no_test_image(
    counts: dict[str, int], seed: int, holdout: float | None, protocol: str
) -> None:
    category = make_category(counts)
    config = SUPERVISED if protocol == "supervised" else ProtocolConfig()
    drawn = split(category, config, seed)
    own = for_method(drawn, supervised=False, holdout=holdout, seed=seed)
    seen = {*own.train, *own.held}
    assert not any(sample.label for sample in seen)
    assert not seen & set(own.test)
    assert not set(own.train) & set(own.held) and not set(own.train) & set(own.validation)
    assert (own.test, own.validation) == (drawn.test, drawn.validation)
    assert bool(own.held) == (holdout is not None and (holdout > 0 or protocol == "supervised"))


def test_a_method_holds_back_the_share_it_asks_for() -> None:
    drawn = split(make_category({"crack": 3}, train=40), ProtocolConfig(), 0)
    own = for_method(drawn, supervised=False, holdout=0.05, seed=1)
    assert (len(own.train), len(own.held)) == (38, 2)
    assert {*own.train, *own.held} == set(drawn.train)
    assert for_method(drawn, supervised=False, holdout=0.05, seed=1) == own
    assert for_method(drawn, supervised=False, holdout=0.05, seed=2).held != own.held


def test_a_supervised_method_validates_on_the_protocols_images() -> None:
    drawn = split(make_category({"crack": 20}), SUPERVISED, 0)
    own = for_method(drawn, supervised=True, holdout=0.15, seed=0)
    assert own.held == drawn.validation and any(sample.label for sample in own.held)
    assert own.train == drawn.train


@pytest.mark.parametrize(("counts", "what"), [({}, "train on"), ({"crack": 1}, "test")])
def test_too_few_images_are_an_error(counts: dict[str, int], what: str) -> None:
    with pytest.raises(DataError, match=f"good and defective ones to {what}.*one_class"):
        split(make_category(counts), SUPERVISED, 0)


def test_nothing_can_be_held_back_of_a_single_image() -> None:
    single = Split(make_category({}, train=1).train, ())
    with pytest.raises(DataError, match="only one"):
        for_method(single, supervised=False, holdout=0.2, seed=0)

"""Protocols: no test image is ever trained or validated on; splits are complete, nested, grouped, drawn by the seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.protocol_rules import OWN_TEST, PROTOCOLS, TRAIN_ON_DEFECTS, check_protocol, drawn_as
from harness.data.protocols import Split, for_method, split
from harness.data.records import Category, Sample
from harness.errors import ConfigError, DataError
from harness.schema import CONF_DIR, ProtocolConfig, compose

SUPERVISED = ProtocolConfig("supervised", validation=0.15, test=0.15)
VALIDATED = ProtocolConfig("validated", validation=0.15, test=0.15)

kinds = st.dictionaries(st.sampled_from(["crack", "hole", "scratch"]), st.integers(5, 40), min_size=1)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def protocols(draw: Any, names: tuple[str, ...] = PROTOCOLS, groups: bool = False) -> ProtocolConfig:
    """Any protocol, with any values of its settings that categories of this file can bear."""
    name = draw(st.sampled_from(names))
    config = ProtocolConfig(name)
    share = st.sampled_from([0.1, 0.15, 0.2, 0.3])
    if name in ("validated", "supervised"):
        config.validation, config.test = draw(share), draw(share)
    if name in ("one_class", "kfold", "imbalance"):
        config.validation = draw(st.none() | share)
    if name == "validated_synthetic":
        config.validation, config.synthetic = draw(share), True
    if name == "few_shot":
        config.shots = draw(st.sampled_from([2, 5, "all"]))
    if name in ("kfold", "imbalance"):
        config.folds = draw(st.integers(2, 4))
        config.fold = draw(st.integers(0, config.folds - 1))
    if name == "imbalance":
        config.defects = draw(st.sampled_from([0.8, 1.0]))
    if name not in ("kfold", "imbalance"):
        config.order = draw(st.none() | st.just("name"))
    if groups and name not in OWN_TEST:
        config.group = r"^(\d+)"
    return config


def make_category(counts: dict[str, int], train: int = 20, test: int = 5, exposures: int = 1) -> Category:
    """Images named after a part and an exposure: `3_1.png` is part 3's second one, of its own kind and split."""
    samples, part = [], 0
    for place, kind, count in [
        ("train", "good", train),
        ("test", "good", test),
        *(("test", *k) for k in counts.items()),
    ]:
        for i in range(count):
            part += i % exposures == 0
            name = f"{place}/{kind}/{part}_{i % exposures}.png"
            samples.append(Sample(Path(name), name, place, kind))  # type: ignore[arg-type]
    return Category("made", "thing", Path("."), tuple(samples))


def names(samples: Any) -> list[str]:
    return [sample.name for sample in samples]


@given(kinds, seeds, protocols(), st.booleans(), st.sampled_from([None, 0.0, 0.2]))
def test_no_test_image_is_trained_or_validated_on(
    counts: dict[str, int], seed: int, protocol: ProtocolConfig, supervised: bool, holdout: float | None
) -> None:
    category = make_category(counts)
    drawn = split(category, protocol, seed)
    own = for_method(drawn, supervised, holdout, seed)
    for part in (drawn, own):
        trained, validated, tested = set(part.train), {*part.validation, *part.held}, set(part.test)
        assert not tested & (trained | validated)
        assert not trained & validated
        assert trained | validated | tested <= set(category.samples)
    assert own.test == drawn.test and own.validation == drawn.validation
    assert {sample.label for sample in own.test} == {0, 1}
    assert set(own.train) <= set(drawn.train) and own.train
    if protocol.name in OWN_TEST:
        assert own.test == category.test
        assert not any(sample.label for sample in (*own.train, *own.held, *own.validation))
    if not supervised:
        assert not any(sample.label for sample in (*own.train, *own.held))


@given(kinds, seeds, protocols(groups=True), st.integers(2, 6))
def test_groups_stay_together(counts: dict[str, int], seed: int, protocol: ProtocolConfig, exposures: int) -> None:
    category = make_category(dict.fromkeys(counts, 6 * exposures), 8 * exposures, 6 * exposures, exposures)
    drawn = for_method(split(category, protocol, seed), supervised=True, holdout=0.2, seed=seed)
    place: dict[str, set[str]] = {}
    for part in ("train", "validation", "test"):
        for sample in getattr(drawn, part):
            place.setdefault(Path(sample.name).stem.partition("_")[0], set()).add(part)
    if protocol.group:
        assert all(len(parts) == 1 for parts in place.values())
        assert set(drawn.groups) == set(names(category.samples))
        assert not {drawn.groups[s.name] for s in drawn.held} & {drawn.groups[s.name] for s in drawn.train}


@given(kinds, st.integers(5, 60), seeds)
def test_a_supervised_split_is_complete_disjoint_and_stratified(counts: dict[str, int], train: int, seed: int) -> None:
    category = make_category(counts, train)
    drawn = split(category, SUPERVISED, seed)
    parts = (drawn.train, drawn.validation, drawn.test)
    found = Counter(sample.name for part in parts for sample in part)
    assert set(found) == {sample.name for sample in category.samples}
    assert set(found.values()) == {1}
    for kind, total in Counter(sample.defect for sample in category.samples).items():
        validation, test = (sum(s.defect == kind for s in part) for part in (drawn.validation, drawn.test))
        assert abs(test - 0.15 * total) <= 1 and abs(validation - 0.15 * total) <= 1.2
        assert test >= 1 and validation >= 1


@given(kinds, seeds)
def test_validated_moves_the_trainings_defects_to_the_validation_and_tests_what_supervised_tests(
    counts: dict[str, int], seed: int
) -> None:
    category = make_category(counts)
    supervised, validated = split(category, SUPERVISED, seed), split(category, VALIDATED, seed)
    assert validated.test == supervised.test
    assert set(validated.train) == {sample for sample in supervised.train if not sample.label}
    assert {*validated.train, *validated.validation, *validated.test} == set(category.samples)
    assert drawn_as("validated") == drawn_as("supervised") == "supervised"


def test_validated_has_the_counts_of_paper_004() -> None:
    """Table 2: 1892 normal to train; 405 and 824 to validate; 406 and 146 to test (its rounding differs by one)."""
    drawn = split(make_category({"damaged": 970}, train=2703 - 406, test=406), VALIDATED, 0)
    assert len(drawn.train) == 1892
    validation, test = (Counter(sample.label for sample in part) for part in (drawn.validation, drawn.test))
    assert (validation[1], test[1]) == (824, 146)
    assert abs(validation[0] - 405) <= 1 and abs(test[0] - 406) <= 1


@given(kinds, seeds, protocols())
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_files(
    counts: dict[str, int], seed: int, protocol: ProtocolConfig
) -> None:
    category = make_category(counts)
    reversed_ = Category("made", "thing", Path("."), category.samples[::-1])
    assert split(category, protocol, seed) == split(reversed_, protocol, seed)
    splits = {str(names(split(category, protocol, s).train)) for s in range(8)}
    drawn = protocol.order is None and (protocol.validation or protocol.folds or protocol.shots not in (None, "all"))
    assert (len(splits) > 1) == bool(drawn)


def plain_category(crack: int, train: int, test: int) -> Category:
    """Images named as in MVTec AD, where numbers begin anew in every folder."""
    counts = (("train", "good", train), ("test", "good", test), ("test", "crack", crack))
    found = [f"{split}/{kind}/{i}.png" for split, kind, count in counts for i in range(count)]
    samples = tuple(Sample(Path(name), name, *name.split("/")[:2]) for name in found)  # type: ignore[arg-type]
    return Category("made", "thing", Path("."), samples)


@pytest.mark.parametrize(
    ("protocol", "part", "expected"),
    [
        (SUPERVISED, "test", ["test/crack/0.png", "test/good/0.png"]),
        (SUPERVISED, "validation", ["test/crack/2.png", "test/good/1.png"]),
        (VALIDATED, "train", [f"train/good/{i}.png" for i in range(4)]),
        (ProtocolConfig("few_shot", shots=2), "train", ["train/good/0.png", "train/good/2.png"]),
        (
            ProtocolConfig("kfold", folds=3, fold=1),
            "test",
            ["test/crack/2.png", "test/good/1.png", "train/good/0.png"],
        ),
        (
            ProtocolConfig("imbalance", folds=2, fold=1, defects=0.5),
            "test",
            ["test/crack/2.png", "test/good/1.png", "train/good/1.png", "train/good/2.png"],
        ),
        (ProtocolConfig("validated_synthetic", validation=0.25, synthetic=True), "validation", ["train/good/0.png"]),
    ],
)
def test_a_split_is_the_same_on_every_machine(protocol: ProtocolConfig, part: str, expected: list[str]) -> None:
    assert names(getattr(split(plain_category(4, 4, 2), protocol, 7), part)) == expected


@given(kinds, seeds, st.sampled_from([None, "name"]))
def test_few_shots_are_a_part_of_more_of_the_same_seed(counts: dict[str, int], seed: int, order: str | None) -> None:
    category = make_category(counts)
    chosen = [split(category, ProtocolConfig("few_shot", shots=k, order=order), seed) for k in (1, 2, 4, 8, 16, "all")]
    assert [len(drawn.train) for drawn in chosen] == [1, 2, 4, 8, 16, 20]
    assert all(set(fewer.train) < set(more.train) for fewer, more in pairwise(chosen))
    assert all(drawn.test == category.test for drawn in chosen)


@given(kinds, seeds, st.integers(2, 4), st.sampled_from([0.5, 0.75, 1.0]))
def test_every_image_is_tested_in_one_fold(counts: dict[str, int], seed: int, folds: int, defects: float) -> None:
    category = make_category({kind: 2 * count for kind, count in counts.items()})
    drawn = [
        split(category, ProtocolConfig("imbalance", folds=folds, fold=fold, defects=defects), seed)
        for fold in range(folds)
    ]
    tested = [sample for of_fold in drawn for sample in of_fold.test]
    assert len(tested) == len(set(tested))
    assert {s for s in tested if not s.label} == {s for s in category.samples if not s.label}
    for of_fold in drawn:
        assert {*of_fold.train, *of_fold.test} == set(tested)
    for kind in {"good", *counts}:
        shares = [sum(sample.defect == kind for sample in of_fold.test) for of_fold in drawn]
        assert max(shares) - min(shares) <= 1
        total = sum(sample.defect == kind for sample in category.samples)
        assert sum(shares) == (total if kind == "good" else pytest.approx(defects * total, abs=0.5))


@given(kinds, seeds)
def test_a_smaller_part_of_the_defects_is_a_part_of_the_larger_and_good_images_stay_where_they_are(
    counts: dict[str, int], seed: int
) -> None:
    category = make_category({kind: 4 * count for kind, count in counts.items()})
    parts = []
    for share in (0.25, 0.5, 0.75, 1.0):
        drawn = split(category, ProtocolConfig("imbalance", folds=3, fold=0, defects=share), seed)
        parts.append(({s for s in (*drawn.train, *drawn.test) if s.label}, {s for s in drawn.test if not s.label}))
    assert all(fewer < more for (fewer, _), (more, _) in pairwise(parts))
    assert len({frozenset(good) for _, good in parts}) == 1
    whole = split(category, ProtocolConfig("kfold", folds=3, fold=0), seed)
    assert {s for s in whole.test if not s.label} == parts[0][1]


@given(kinds, seeds, st.sampled_from([SUPERVISED, VALIDATED]))
def test_in_order_the_first_train_and_the_last_test(
    counts: dict[str, int], seed: int, protocol: ProtocolConfig
) -> None:
    category = make_category(counts, train=30)
    ordered = ProtocolConfig(protocol.name, validation=0.15, test=0.15, order="name")
    drawn = split(category, ordered, seed)

    def taken(samples: Any) -> list[int]:
        return [int(Path(s.name).stem.partition("_")[0]) for s in samples if not s.label]

    assert (
        max(taken(drawn.train)) < min(taken(drawn.validation)) < max(taken(drawn.validation)) < min(taken(drawn.test))
    )
    assert drawn == split(category, ordered, seed + 1)


def test_order_and_groups_by_a_column_of_metadata() -> None:
    base = make_category({"crack": 20}, test=4)
    table = {s.name: {"shot": str(100 - i), "part": str(i // 4)} for i, s in enumerate(base.samples)}
    category = Category("made", "thing", Path("."), base.samples, metadata=table)
    drawn = split(category, ProtocolConfig("supervised", validation=0.2, test=0.2, order="shot", group="part"), 0)
    shots = {part: [int(table[s.name]["shot"]) for s in getattr(drawn, part) if s.label] for part in ("train", "test")}
    assert max(shots["train"]) < min(shots["test"])
    parts = [{table[s.name]["part"] for s in part} for part in (drawn.train, drawn.validation, drawn.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


@pytest.mark.parametrize(
    "values",
    [
        [f"{i / 20:g}" for i in range(20)],  # 0.9 comes after 0.85
        [str(i - 10) for i in range(20)],
        [f"2024-{1 + i // 9:02d}-{3 * (1 + i % 9):02d}" for i in range(20)],
        [f"shot {i}" for i in range(20)],
        [f"{i}²" for i in range(20)],
    ],
    ids=["decimals", "negative", "dates", "numbers in text", "superscripts"],
)
def test_a_column_orders_by_its_values(values: list[str]) -> None:
    base = make_category({"crack": 6}, train=20)
    rows = dict(zip(names(base.train), values[::-1], strict=True))  # not the order of names
    table = {s.name: {"time": rows.get(s.name, values[0])} for s in base.samples}
    category = Category("made", "thing", Path("."), base.samples, metadata=table)
    drawn = split(category, ProtocolConfig("validated_synthetic", validation=0.25, order="time", synthetic=True), 0)
    assert {rows[s.name] for s in drawn.validation} == set(values[-5:])
    assert len(split(category, ProtocolConfig("few_shot", shots=3, order="time"), 0).train) == 3


def test_groups_of_several_kinds_stay_together_and_their_good_images_go_with_the_defects() -> None:
    samples = []
    for part in range(40):
        kinds_of = ["good", "good"] if part % 4 else ["good", "crack"]
        samples += [
            Sample(Path(f"test/{kind}/{part}_{i}.png"), f"test/{kind}/{part}_{i}.png", "test", kind)
            for i, kind in enumerate(kinds_of)
        ]
    category = Category("made", "thing", Path("."), tuple(samples))
    drawn = split(category, ProtocolConfig("validated", validation=0.2, test=0.2, group=r"^(\d+)"), 0)
    of = {
        part: {Path(s.name).stem.partition("_")[0] for s in getattr(drawn, part)}
        for part in ("train", "validation", "test")
    }
    assert not of["train"] & of["validation"] and not (of["train"] | of["validation"]) & of["test"]
    assert not any(sample.label for sample in drawn.train)


def test_the_data_sets_own_split_is_refused_where_it_parts_a_group() -> None:
    samples = [
        Sample(Path(f"{s}/good/7_{i}.png"), f"{s}/good/7_{i}.png", s, "good") for i, s in enumerate(("train", "test"))
    ]
    category = Category("made", "thing", Path("."), tuple(samples))
    with pytest.raises(DataError, match=r"train/good/7_0.png and test/good/7_1.png are of one protocol.group"):
        split(category, ProtocolConfig("one_class", group=r"^(\d+)"), 0)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("x(", "no regular expression"),
        (r"^(\d+)_", "keeps no two images of"),
        ("camera_", "found nowhere in the name"),
    ],
)
def test_a_group_that_is_none_is_a_sentence(group: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        split(make_category({"crack": 9}), ProtocolConfig("supervised", validation=0.2, test=0.2, group=group), 0)


def test_a_data_sets_own_validation_images_are_the_held_ones() -> None:
    base = make_category({"crack": 4})
    own = Sample(Path("validation/good/0.png"), "validation/good/0.png", "validation", "good")
    category = Category("made", "thing", Path("."), (*base.samples, own))
    drawn = split(category, ProtocolConfig("validated_synthetic", validation=0.2, synthetic=True), 0)
    assert drawn.validation == (own,) and drawn.train == category.train


def test_a_method_holds_back_the_share_it_asks_for() -> None:
    drawn = split(make_category({"crack": 3}, train=40), ProtocolConfig(), 0)
    own = for_method(drawn, supervised=False, holdout=0.05, seed=1)
    assert (len(own.train), len(own.held)) == (38, 2)
    assert {*own.train, *own.held} == set(drawn.train)
    assert for_method(drawn, supervised=False, holdout=0.05, seed=1) == own
    assert for_method(drawn, supervised=False, holdout=0.05, seed=2).held != own.held


def test_a_method_validates_on_the_protocols_images_where_there_are_some() -> None:
    drawn = split(make_category({"crack": 20}), SUPERVISED, 0)
    own = for_method(drawn, supervised=True, holdout=0.15, seed=0)
    assert own.held == drawn.validation and any(sample.label for sample in own.held)
    assert own.train == drawn.train


@pytest.mark.parametrize(("counts", "what"), [({}, "train on"), ({"crack": 1}, "test")])
def test_too_few_images_are_an_error(counts: dict[str, int], what: str) -> None:
    with pytest.raises(DataError, match=f"good and defective ones to {what}.*one_class"):
        split(make_category(counts), SUPERVISED, 0)


def test_a_fold_without_defects_and_more_shots_than_images_are_errors() -> None:
    with pytest.raises(DataError, match=r"defective ones to test.*fewer protocol.folds than 4"):
        split(make_category({"crack": 3}), ProtocolConfig("kfold", folds=4, fold=0), 0)
    with pytest.raises(DataError, match=r"has 20 normal training images, fewer than protocol.shots=21"):
        split(make_category({"crack": 3}), ProtocolConfig("few_shot", shots=21), 0)


def test_nothing_can_be_held_back_of_a_single_image() -> None:
    single = make_category({"crack": 3}, train=1)
    with pytest.raises(DataError, match="only one"):
        for_method(Split(single.train, ()), supervised=False, holdout=0.2, seed=0)
    with pytest.raises(DataError, match="too few normal training images"):
        split(single, ProtocolConfig("one_class", validation=0.2), 0)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF_DIR / "protocol").glob("*.yaml")))
def test_every_protocol_has_a_yaml_that_means_something(name: str) -> None:
    assert name in PROTOCOLS
    check_protocol(compose([f"protocol={name}"]).protocol, name in TRAIN_ON_DEFECTS, "a_method")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["protocol.name=nope"], "protocol.name=nope is not possible"),
        (["protocol.shots=3"], "protocol.shots=3 means nothing under protocol=one_class; it belongs to few_shot"),
        (["protocol=kfold", "protocol.order=name"], "protocol.order=name means nothing under protocol=kfold"),
        (["protocol=few_shot", "protocol.shots=0"], "give a number of images from 1, or all"),
        (["protocol=few_shot", "protocol.shots=some"], "protocol.shots=some is not possible"),
        (["protocol=kfold", "protocol.fold=10"], "numbered from 0 to 9"),
        (["protocol=kfold", "protocol.folds=1"], "give 2 or more"),
        (["protocol=imbalance", "protocol.defects=0"], "protocol.defects=0.0 is not possible"),
        (["protocol=validated", "protocol.test=0.9"], "leave some to train on"),
        (["protocol=validated", "protocol.test=null"], "protocol=validated needs protocol.test"),
    ],
)
def test_settings_without_meaning_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_protocol(compose(overrides).protocol, False, "radl")
    assert said in str(caught.value)


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) - set(TRAIN_ON_DEFECTS)))
def test_supervised_methods_are_refused_where_defects_are_kept_from_training(protocol: str) -> None:
    with pytest.raises(ConfigError, match=f"protocol={protocol} keeps.*protocol=supervised, kfold or imbalance"):
        check_protocol(compose([f"protocol={protocol}"]).protocol, True, "auto_classifier")

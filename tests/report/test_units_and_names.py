"""Protocols in a report: folds as units, what is a variant, what is a data set of its own, what cannot be run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tables_of import tables_of

from harness.errors import TrackingError
from harness.report.__main__ import main
from harness.report.collect import collect
from harness.report.names import tell_apart
from harness.report.study import Study
from harness.report.tables import Table

MakeStore = Callable[[str], Any]
UNSET = {f"protocol.{key}": "None" for key in ("validation", "test", "shots", "folds", "fold", "defects", "synthetic")}
UNSET |= {"protocol.group": "None", "protocol.order": "None", "preprocess.grey": "False"}
UNSET |= {"dataset.select": "{}", "dataset.normals": "{}", "dataset.rotation": "None"}


def protocol(name: str, **given: Any) -> dict[str, Any]:
    """Return what `Store.add` takes for a run under a protocol."""
    params = UNSET | {"protocol.name": name} | {f"protocol.{key}": str(value) for key, value in given.items()}
    return {"params": params, "tags": {"protocol": name, "fold": str(given.get("fold", ""))}}


def table(study: Study, name: str) -> Table:
    return next(found for found in tables_of(study) if found.name == name)


@pytest.fixture(scope="module")
def folds(make_store: MakeStore) -> tuple[Study, dict[str, np.ndarray]]:
    """Three methods in ten folds of one seed: small differences that only pairing tells; one fold is missing."""
    store = make_store("folds")
    rng = np.random.default_rng(7)
    spread = rng.normal(0.9, 0.03, 10)
    shifts = {"padim": rng.normal(0, 0.01, 10), "patchcore": np.full(10, 0.012) + rng.normal(0, 0.003, 10)}
    values = {method: (spread + shift).round(6) for method, shift in shifts.items()}
    values["radl"] = (values["patchcore"] + rng.normal(-0.001, 0.01, 10)).round(6)
    for method, of_folds in values.items():
        for fold, level in enumerate(of_folds):
            if (method, fold) != ("radl", 4):
                store.add(method, "a", 0, level=level, **protocol("imbalance", folds=10, fold=fold, defects=0.25))
    return collect(store.uri), values


def test_folds_of_a_seed_are_values_and_no_doubles(folds: tuple[Study, dict[str, np.ndarray]]) -> None:
    study, values = folds
    assert len(study.runs) == 29 and not study.warnings
    assert set(study.runs["unit"]) == {f"0.{fold}" for fold in range(10)}
    assert set(study.runs["dataset"]) == {"toy (imbalance, 10 folds, 0.25 of the defects)"}
    assert [str(hole) for hole in study.holes] == [
        "radl / toy (imbalance, 10 folds, 0.25 of the defects) / a / seed 0 / fold 4"
    ]
    numbers = table(study, "image_auroc").numbers.set_index("label")
    assert numbers["n"].to_dict() == {"padim": 10, "patchcore": 10, "radl": 9}
    for method in ("padim", "patchcore"):
        assert numbers.loc[method, "mean"] == pytest.approx(100 * values[method].mean())
        assert numbers.loc[method, "std"] == pytest.approx(100 * values[method].std(ddof=1))
    assert set(numbers["unit"]) == {"fold"}


def test_folds_are_tested_in_pairs(folds: tuple[Study, dict[str, np.ndarray]]) -> None:
    study, values = folds
    found = table(study, "image_auroc")
    numbers = found.numbers.set_index("label")
    paired = stats.wilcoxon(values["patchcore"], values["padim"]).pvalue
    assert paired < 0.005 < stats.ttest_ind(values["patchcore"], values["padim"], equal_var=False).pvalue
    assert numbers.loc["padim", "pvalue"] == paired
    second = [values["patchcore"][fold] - values["radl"][fold] for fold in range(10) if fold != 4]
    assert numbers.loc["radl", "pvalue"] == stats.wilcoxon(second).pvalue > 0.005
    assert not numbers["best"].any(), "paper 001: bold only where the best is separated from the second best"
    assert "separates it from the second best" in found.caption and "anticonservative" in found.caption
    assert "over 10 folds" in found.caption and "(n=…): folds of a cell that has not 10" in found.caption
    assert "Wilcoxon" in found.caption and "paired by fold" in found.caption and "0.5 %" in found.caption
    assert "Welch" not in found.caption and "seeds" not in found.caption


def test_seeds_and_folds_in_one_table_are_both_told(make_store: MakeStore) -> None:
    store = make_store("both_units")
    for method, level in (("padim", 0.8), ("patchcore", 0.9)):
        for seed in range(2):
            store.add(method, "a", seed, level=level + seed / 100)
            for fold in range(5):
                given = protocol("kfold", folds=5, fold=fold)
                store.add(method, "a", seed, level=level - fold / 100 - seed / 500, **given)
    found = table(collect(store.uri), "image_auroc")
    assert "over 2 seeds or, in data sets with folds, 10 folds" in found.caption
    assert "Welch's two-sided t-test (unit: the seed)" in found.caption and "Wilcoxon" in found.caption
    best = found.numbers.set_index(["dataset", "label"])["best"]
    assert best["toy (kfold, 5 folds)", "patchcore"] and not best["toy (kfold, 5 folds)", "padim"]


def test_too_few_folds_are_no_test(make_store: MakeStore) -> None:
    store = make_store("few_folds")
    for method, level in (("padim", 0.7), ("patchcore", 0.9)):
        for fold in range(5):
            store.add(method, "a", 0, level=level + fold / 100, **protocol("kfold", folds=5, fold=fold))
    found = table(collect(store.uri), "image_auroc")
    assert not found.numbers["best"].any()
    assert (
        "Too few methods have the 9 folds that the test takes (the smallest p of 5 folds is 0.0625): no test, nothing "
        "in bold."
    ) in found.caption


def test_protocols_that_test_on_the_same_images_are_variants(make_store: MakeStore) -> None:
    store = make_store("variants")
    for seed in range(2):
        store.add("patchcore", "a", seed)  # an older run, that knew no such settings
        store.add("padim", "a", seed, **protocol("one_class"))
        for shots in (16, 2, "all", 1, 8):
            store.add("patchcore", "a", seed, **protocol("few_shot", shots=shots))
        store.add("padim", "a", seed, **protocol("validated_synthetic", validation=0.15, synthetic=True))
    study = collect(store.uri)
    assert set(study.runs["dataset"]) == {"toy"} and not study.holes
    assert table(study, "image_auroc").columns == (
        "padim",
        "padim (synthetic=true, validation=0.15)",
        "patchcore",
        "patchcore (shots=1)",
        "patchcore (shots=2)",
        "patchcore (shots=8)",
        "patchcore (shots=16)",
        "patchcore (shots=all)",
    )
    assert study.base == {}
    assert set(study.runs["label_of_shots"]) == {
        "padim",
        "padim (synthetic=true, validation=0.15)",
        "patchcore",
    }


def test_few_shots_are_always_named(make_store: MakeStore) -> None:
    store = make_store("shots")
    for shots in (4, 4, 8):
        given = protocol("few_shot", shots=shots)
        store.add("patchcore", "a", store.count, **given)
    study = collect(store.uri)
    assert sorted(study.runs["label"]) == ["patchcore (shots=4)", "patchcore (shots=4)", "patchcore (shots=8)"]


def named(protocol_name: str, content: str = "x", **params: str) -> dict[str, Any]:
    record = {"dataset": "vin", "category": "a", "protocol": protocol_name, "data_fingerprint": content}
    return record | {"params": UNSET | {key.replace("__", "."): value for key, value in params.items()}}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (named("one_class"), "vin"),
        (named("one_class", protocol__validation="0.15"), "vin"),
        (named("few_shot", protocol__shots="4"), "vin"),
        (named("few_shot", protocol__shots="4", protocol__order="date"), "vin (few_shot, ordered by date)"),
        (
            named("supervised", protocol__validation="0.15", protocol__test="0.15"),
            "vin (0.15 of the images tested)",
        ),
        (
            named("imbalance", protocol__folds="10", protocol__fold="3", protocol__defects="0.25"),
            "vin (imbalance, 10 folds, 0.25 of the defects)",
        ),
        (
            named("kfold", protocol__folds="10", protocol__fold="3", protocol__group=r"num_(\d+)"),
            r"vin (kfold, 10 folds, grouped by num_(\d+))",
        ),
        (named("one_class", dataset__select__camera="mobile"), "vin (camera=mobile)"),
        (named("one_class", dataset__select__camera="['a', 'b']"), "vin (camera=a or b)"),
        (named("one_class", dataset__normals__camera="stationary"), "vin (normals: camera=stationary)"),
        (named("one_class", dataset__rotation="rotation"), "vin (rotated by rotation)"),
        (
            named("kfold", protocol__folds="5", dataset__select__camera="mobile", dataset__rotation="turn"),
            "vin (camera=mobile, rotated by turn) (kfold, 5 folds)",
        ),
    ],
)
def test_data_sets_are_named_after_what_is_tested(record: dict[str, Any], name: str) -> None:
    assert tell_apart([record]) == []
    assert record["dataset"] == name


def test_parts_of_a_data_set_are_no_changed_data() -> None:
    records = [named("one_class", "whole"), named("one_class", "part", dataset__select__camera="mobile")]
    assert tell_apart(records) == []
    assert [record["category"] for record in records] == ["a", "a"]
    changed = [named("one_class", "whole"), named("one_class", "other")]
    assert len(tell_apart(changed)) == 1 and changed[0]["category"] == "a [data whole]"


def test_augmentation_is_one_readable_setting(make_store: MakeStore) -> None:
    store = make_store("augmented")
    none = {"augment.rotation": "0.0", "augment.rotation_p": "0.5"}
    none |= {"augment.noise_variance": "[0.0, 0.0]", "augment.noise_p": "0.5"}
    both = none | {"augment.rotation": "15.0", "augment.noise_variance": "[10.0, 120.0]"}
    for params in ({}, both, both | {"augment.noise_p": "0.25"}, none | {"augment.rotation": "15.0"}):
        store.add("padim", "a", 0, params=params)
    store.add("padim", "a", 1, params=none)
    assert set(collect(store.uri).runs["label"]) == {
        "padim",
        "padim (augment=rotation 15 p 0.5, noise 10-120 p 0.5)",
        "padim (augment=rotation 15 p 0.5, noise 10-120 p 0.25)",
        "padim (augment=rotation 15 p 0.5)",
    }


NEEDS = "Camera labels are only in the company's copy of the data."


def cells(**last: Any) -> list[dict[str, Any]]:
    place = {"method": "padim", "dataset": "vin", "category": "a"}
    found = [place | {"run_key": f"k{seed}", "seed": seed, "fold": None, "needs": None} for seed in range(2)]
    return found + [place | {"run_key": f"p{seed}", "category": "b", "seed": seed} | last for seed in range(2)]


def test_what_the_public_data_lack_is_told_and_is_no_hole(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store("needs")
    for seed in range(2):
        store.add("padim", "a", seed, tags={"run_key": f"k{seed}"}, dataset="vin")
    monkeypatch.setattr("harness.report.build.expected_cells", lambda _: (cells(fold=3, needs=NEEDS), []))
    assert main(["experiment=study", f"tracking.uri={store.uri}", f"reports_dir={tmp_path}", "strict=true"]) == 0
    page = (tmp_path / "study" / "report.md").read_text(encoding="utf-8")
    assert f"## Not possible with the public data\n\n{NEEDS}\n\n- padim / vin / b (2 runs)\n" in page
    assert "Incomplete" not in page
    trace = json.loads((tmp_path / "study" / "provenance.json").read_text(encoding="utf-8"))
    assert trace["holes"] == []
    assert trace["impossible"] == {NEEDS: [f"padim / vin / b / seed {s} / fold 3 (run key p{s})" for s in range(2)]}


def test_a_finished_run_is_never_impossible_and_a_fold_can_be_a_hole(make_store: MakeStore) -> None:
    store = make_store("needed")
    store.add("padim", "b", 0, tags={"run_key": "p0"}, dataset="vin")
    study = collect(store.uri, "study", cells(needs=NEEDS))
    assert [len(cells) for cells in study.impossible.values()] == [1]
    assert [hole.run_key for hole in study.holes] == ["k0", "k1"]
    holes = collect(store.uri, "study", cells(fold=3)).holes
    assert str(holes[-1]) == "padim / vin / b / seed 1 / fold 3 (run key p1)"


def test_an_experiment_that_is_impossible_altogether_says_so(make_store: MakeStore) -> None:
    store = make_store("nothing")
    store.add("padim", "a", 0, experiment="other")
    with pytest.raises(TrackingError, match="No run of experiment 'study' is possible with the public data: Camera"):
        collect(store.uri, "study", cells(needs=NEEDS)[2:])


def test_labels_of_more_tuned_settings(make_store: MakeStore) -> None:
    store = make_store("tuned_on_test")
    store.add("padim", "a", 0, tags={"tuned_on_test": "n_features,layers"})
    (warning,) = collect(store.uri).warnings
    assert "n_features and layers" in warning and "by tuning" in warning and "oracle" in warning


def test_summaries_name_their_unit(folds: tuple[Study, dict[str, np.ndarray]]) -> None:
    numbers = pd.concat([found.numbers for found in tables_of(folds[0])])
    assert set(numbers["unit"]) == {"fold"}

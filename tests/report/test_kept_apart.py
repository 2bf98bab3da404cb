"""What must never be averaged or compared away: other protocols, random weights, values chosen on test images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tables_of import tables_of

from harness.report.collect import collect
from harness.report.render import markdown
from harness.report.study import Study

SUPERVISED = {"protocol.name": "supervised", "protocol.validation": "0.15", "protocol.test": "0.15"}


@pytest.fixture(scope="module")
def study(make_store: Callable[[str], Any]) -> Study:
    """PatchCore and PaDiM on two protocols, PaDiM on real data with random weights."""
    store = make_store("apart")
    for seed in range(3):
        for category in ("a", "b"):
            store.add("patchcore", category, seed, level=0.9 + 0.01 * seed)
            store.add("padim", category, seed, level=0.8 + 0.01 * seed)
            tags = {"protocol": "supervised"}
            store.add("patchcore", category, seed, level=0.7 + 0.01 * seed, params=SUPERVISED, tags=tags)
            real = {"dataset": "mvtec_ad", "category": category, "seed": seed, "params": {"dataset.layout": "mvtec"}}
            store.add("patchcore", level=0.95 + 0.01 * seed, tags={"weights": "resnet18:file-0123"}, **real)
            store.add("padim", level=0.6, tags={"weights": "resnet18:random-0"}, **real)
    return collect(store.uri)


def table(study: Study, name: str) -> str:
    return markdown(next(table for table in tables_of(study) if table.name == name))


def test_runs_of_different_protocols_never_share_a_row(study: Study) -> None:
    lines = table(study, "image_auroc").splitlines()
    assert sum("| toy |" in line for line in lines) == 3  # two categories and their mean
    apart = [line for line in lines if "| toy (0.15 of the images tested) |" in line]
    assert len(apart) == 3 and all("71.0" in line and "–" in line for line in apart)
    assert not study.holes  # PaDiM was never asked to run under the other protocol


def test_no_accuracy_is_printed_of_random_weights_on_real_data(study: Study) -> None:
    assert study.unproven == ("padim",)
    real = [line for line in table(study, "image_auroc").splitlines() if "| mvtec_ad |" in line]
    assert len(real) == 3 and all(line.count("–") == 1 and "96.0" in line for line in real)
    assert all("–" not in line for line in table(study, "time_train").splitlines() if "| mvtec_ad |" in line)
    assert any("random weights" in warning and "6 runs" in warning for warning in study.warnings)


def test_toy_data_are_made_for_random_weights(study: Study) -> None:
    toy = [line for line in table(study, "image_auroc").splitlines() if "| toy |" in line]
    assert all("81.0" in line and "91.0" in line for line in toy)


def test_a_value_chosen_on_test_images_is_told_and_is_one_setting(make_store: Callable[[str], Any]) -> None:
    store = make_store("tuned")
    listed = {"method.tuned_on_test.tau.a": "0.5", "method.tuned_on_test.tau.b": "0.25"}
    for category, tau in (("a", "0.5"), ("b", "0.25")):
        params = listed | {"method.tau": tau}
        store.add("radl", category, 0, params=params, tags={"tuned_on_test": "tau"}, level=0.9)
        store.add("radl", category, 0, params=listed | {"method.tau": "1.0"}, level=0.8)
    study = collect(store.uri)
    labels = study.runs.groupby("label")["category"].agg(list).to_dict()
    assert list(labels.values()) == [["a", "b"], ["a", "b"]]
    assert any("tau of 2 runs" in warning and "oracle" in warning for warning in study.warnings)


def test_a_setting_that_all_runs_share_is_told_where_it_is_not_the_methods_own(
    make_store: Callable[[str], Any],
) -> None:
    """A report of `radl_b` alone, whose columns are all called radl."""
    store = make_store("unusual")
    for tau in ("0.5", "1.0"):
        store.add("radl", "a", 0, params={"method.fdfa": "False", "method.tau": tau})
    study = collect(store.uri)
    assert study.unusual["radl"]["fdfa"] == ("false", "true") and "tau" not in study.unusual["radl"]


def test_values_that_are_swept_stay_values(make_store: Callable[[str], Any]) -> None:
    """A sweep over the noise gives every category the others' own values: no column may lose a category."""
    store = make_store("swept")
    listed = {"method.tuned_on_test.tau.a": "0.5", "method.tuned_on_test.tau.b": "0.25"}
    for category in ("a", "b"):
        for tau in ("0.25", "0.5", "1.0"):
            store.add("radl", category, 0, params=listed | {"method.tau": tau})
    runs = collect(store.uri).runs
    assert runs.groupby("label")["category"].agg(list).tolist() == [["a", "b"]] * 3
    assert not runs["label"].str.contains("per category").any()


def test_of_the_share_of_missed_defects_the_lowest_is_best(make_store: Callable[[str], Any]) -> None:
    store = make_store("missed")
    for seed in range(4):
        for method, missed in (("patchcore", 0.02), ("padim", 0.3)):
            store.add(method, "a", seed, metrics={"test/aql": missed + 0.001 * seed, "test/defect_recall": 1 - missed})
    lines = table(collect(store.uri), "aql").splitlines()
    assert lines[0].index("padim") < lines[0].index("patchcore")
    assert "| 30.1" in lines[2] and "**2.1" in lines[2]

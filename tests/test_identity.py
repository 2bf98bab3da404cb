"""The run key changes with everything that can change a number, and with nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.identity import derive_seed, epochs, run_key
from harness.schema import compose


def key(*overrides: str, data: str = "d", weights: str = "w") -> str:
    return run_key(compose(list(overrides)), data, weights)


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "method.tau=1.0",
        "method.version=99",
        "method.batch_size=4",
        "method.passes=2",
        "method=patchcore",
        "trainer.max_epochs=1",
        "trainer.precision=bf16-mixed",
        "preprocess.size=96",
        "preprocess.fill=0.5",
        "metrics.resolution=native",
        "metrics.frame=full",
        "category=granite_tile",
        "preprocess.grey=true",
        "protocol=few_shot",
        "protocol.order=name",
        "protocol.group=x",
        "protocol.validation=0.2",
    ],
)
def test_what_changes_numbers_changes_the_key(override: str) -> None:
    assert key(override) != key()


@pytest.mark.parametrize(
    "override",
    [
        "trainer.workers=4",
        "trainer.threads=2",
        "trainer.device=cpu",
        "trainer.eval_batch_size=1",
        "trainer.cache_images=false",
        "tracking.uri=sqlite:///elsewhere.db",
        "tracking.directory=elsewhere",
        "dataset.root=elsewhere",
        "dataset.name=other",
        "metrics.heatmaps=0",
        "experiment=toy",
        "backbone.weights=elsewhere.safetensors",  # its content is in the key instead
    ],
)
def test_what_does_not_change_numbers_does_not_change_the_key(override: str) -> None:
    assert key(override) == key()


def test_data_and_weights_are_in_the_key_by_content() -> None:
    assert len({key(), key(data="e"), key(weights="v")}) == 3


def test_a_cap_above_the_methods_epochs_is_no_other_run() -> None:
    assert key("method.epochs=5", "trainer.max_epochs=9") == key("method.epochs=5", "trainer.max_epochs=null")
    assert key("method.epochs=9", "trainer.max_epochs=5") == key("method.epochs=5", "trainer.max_epochs=5")
    assert epochs(compose(["method.epochs=9", "trainer.max_epochs=5"])) == 5


def test_seed_zero_is_a_seed() -> None:
    assert key("seed=0") == key()
    assert derive_seed("train", 0) != derive_seed("train")


@given(st.lists(st.one_of(st.integers(), st.text()), min_size=1), st.integers(0, 100))
def test_derived_seeds_are_stable_and_tell_names_apart(parts: list[int | str], seed: int) -> None:
    assert derive_seed(*parts) == derive_seed(*parts)
    assert 0 <= derive_seed(*parts) < 2**32
    assert derive_seed(*parts, seed) != derive_seed(*parts, seed + 1)


def test_derived_seeds_do_not_change_between_releases() -> None:
    assert derive_seed("split", 0, "toy") == 519925244


def test_a_quick_timing_is_no_timing() -> None:
    given = ("timing=true", "trainer.max_epochs=2", "preprocess.size=64", "trainer.quick=true")
    assert key(*given) != key(*given, "quick=true")
    assert key(*given[1:]) == key(*given[1:], "quick=true")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "6bed389bbd568a0555b5"),
        (["method=patchcore", "seed=3", "dataset=mvtec_ad"], "8f72cd47ec19d56cc903"),
        (["method=auto_classifier"], "66de68b46120b27e85e6"),
        (["method=efficient_ad", "method.version=1", "dataset=autovi"], "25297c1dff4cf9c3b74b"),
        (["augment=autovi", "preprocess=window"], "a8ccf0fad8b547207b22"),
    ],
)
def test_runs_of_earlier_versions_are_found_again(overrides: list[str], expected: str) -> None:
    """What is new (protocols, grey, metadata) is in the key only where it is used."""
    assert key(*overrides, data="fingerprint", weights="weights") == expected


def test_settings_of_a_protocol_and_columns_that_decide_a_split_make_other_runs() -> None:
    few = ["protocol=few_shot"]
    assert len({key(*few, f"protocol.shots={k}") for k in (1, 2, "all")}) == 3
    folds = ["protocol=imbalance"]
    varied = ([], ["protocol.fold=1"], ["protocol.folds=5"], ["protocol.defects=0.5"])
    assert len({key(*folds, *overrides) for overrides in varied}) == 4
    config = compose(["protocol.order=shot"])
    assert run_key(config, "d", "w", {"shot": {"a": "1"}}) != run_key(config, "d", "w", {"shot": {"a": "2"}})
    assert run_key(config, "d", "w", {}) == run_key(config, "d", "w")

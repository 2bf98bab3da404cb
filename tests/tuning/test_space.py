"""Search spaces: every one fits its method, variants find their parent's, a mistake is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.errors import ConfigError
from harness.schema import CONF_DIR, compose
from harness.tuning.space import Space, load_space

METHODS = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml") if path.stem != "anomalib")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_space_around_its_own_values(method: str) -> None:
    config = compose([f"method={method}", "dataset=mvtec_ad"])
    space = load_space(config, method, [CONF_DIR], None)
    unset = {name for name in space.distributions if config.method[name] is None}
    assert set(space.own(config.method)) == set(space.distributions) - unset


def written(folder: Path, text: str, method: str = "radl") -> Space:
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_space(compose([f"method={method}"]), method, [CONF_DIR], str(path))


def test_kinds_of_entries(tmp_path: Path) -> None:
    space = written(
        tmp_path,
        "method.tau: {low: 0, high: 1, step: 0.25}\n"
        "method.hidden: {low: 64, high: 1024, log: true}\n"
        "method.learning_rate: {low: 1e-5, high: 1e-2, log: true}\n"
        "method.layers: {choices: [[layer2], [layer2, layer3]]}\n"
        "method.epochs: {low: 1, high: '${trainer.max_epochs}'}\n",
    )
    assert dict(space.distributions) == {
        "tau": FloatDistribution(0, 1, step=0.25),
        "hidden": IntDistribution(64, 1024, log=True),
        "learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "layers": CategoricalDistribution(['["layer2"]', '["layer2", "layer3"]']),
        "epochs": IntDistribution(1, 20),
    }
    assert space.setting("layers", '["layer2"]') == ["layer2"]
    own = {"tau": 0.5, "hidden": 1024, "learning_rate": 2e-4, "layers": '["layer2", "layer3"]'}
    assert space.own(compose([]).method) == own


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("preprocess.size: {low: 32, high: 64}", "preprocess.size"),
        ("method.taau: {low: 0, high: 1}", "method.taau"),
        ("method.version: {low: 1, high: 2}", "method.version"),
        ("method.tau: {low: 0}", "method.tau"),
        ("method.tau: {low: 1, high: 0}", "low must be less"),
        ("method.tau: {low: 0, high: 1, log: true}", "log: true"),
        ("method.tau: {low: 0, high: 1, stop: 2}", "stop"),
        ("method.tau: {low: a, high: b}", "numbers"),
        ("method.tau: {choices: [1]}", "two or more"),
        ("method.tau: [0, 1]", "method.tau"),
        ("{", "cannot be read"),
        ("", "empty"),
        ("method.tau: {low: 0, high: '${nowhere}'}", "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(tmp_path: Path, text: str, culprit: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, text)
    assert culprit in str(caught.value)
    assert "\n" not in str(caught.value)


def test_variants_of_the_users_inherit_a_space(tmp_path: Path) -> None:
    for folder in ("method", "search"):
        (tmp_path / folder).mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("defaults: [radl_a, _self_]\n")
    searchpath = f"hydra.searchpath=[{tmp_path.as_uri()}]"
    folders = [tmp_path, CONF_DIR]
    config = compose([searchpath, "method=mine"])
    assert load_space(config, "mine", folders, None).source == "radl_a.yaml"
    (tmp_path / "search" / "mine.yaml").write_text("method.margin: {low: 0.2, high: 0.4}\n")
    assert load_space(config, "mine", folders, None).source == "mine.yaml"
    assert load_space(config, "mine", folders, "radl").source == "radl.yaml"
    with pytest.raises(ConfigError, match=r"there are .*radl"):
        load_space(config, "mine", folders, "nope")
    with pytest.raises(ConfigError, match=r"search/anomalib\.yaml"):
        load_space(compose(["method=anomalib"]), "anomalib", folders, None)

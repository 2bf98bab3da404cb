"""Every configuration composes, with its paper's settings, and a mistake in one is a sentence."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf import open_dict

from harness.errors import ConfigError
from harness.models.adapter import _model_class
from harness.schema import CONF_DIR, METHOD_KEYS, compose, flatten, validate

METHODS = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml") if path.stem != "anomalib")
CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF_DIR.glob("*/*.yaml")
    if path.parent.name not in ("method", "tracking", "search")
)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_means_something(choice: str) -> None:
    config = compose([choice])
    validate(config)
    assert flatten(config)["seed"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_a_method_is_an_argument_of_its_model(method: str) -> None:
    config = compose([f"method={method}"])
    accepted = inspect.signature(_model_class(config.method.model)).parameters
    assert set(config.method) - METHOD_KEYS <= set(accepted)


@pytest.mark.parametrize("method", METHODS)
def test_every_tunable_argument_of_our_models_can_be_set(method: str) -> None:
    config = compose([f"method={method}"])
    if not config.method.model.startswith("harness."):
        pytest.skip("anomalib's models have arguments that are not the user's")
    model = _model_class(config.method.model)
    given_otherwise = {"backbone", "backbones", "layers", "pre_trained", "precision", "classes"}
    given_otherwise |= {"efficient_ad_teacher", "imagenette", "dsr_dictionary", "dtd"}  # method.needs
    components = {"pre_processor", "post_processor", "evaluator", "visualizer"}
    inherited = {
        argument
        for base in model.__mro__
        if base.__module__.startswith("anomalib.models.image")
        for argument in inspect.signature(base).parameters
    }
    accepted = inspect.signature(model).parameters
    assert set(accepted) - given_otherwise - components - inherited <= set(config.method)


def test_radl_has_the_papers_settings_on_real_data() -> None:
    config = compose(["dataset=mvtec_ad"])
    method = config.method
    assert (method.epochs, method.batch_size, config.trainer.max_epochs) == (40, 8, None)
    assert (config.backbone.name, config.backbone.weights) == ("wide_resnet50_2.tv_in1k", "hub")
    assert (list(method.layers), method.learning_rate, method.weight_decay) == (["layer2", "layer3"], 2e-4, 1e-5)
    assert (method.loss, method.fdfa, method.tau) == ("hce", True, 0.5)
    assert (config.preprocess.mode, config.preprocess.size) == ("pad", 256)


@pytest.mark.parametrize(
    ("method", "resize", "size"), [("simplenet", 329, 288), ("patchcore", 256, 224), ("padim", 256, 224)]
)
def test_the_papers_preprocessing_comes_with_the_method(method: str, resize: int, size: int) -> None:
    real = compose([f"method={method}", "dataset=mvtec_ad"]).preprocess
    assert (real.mode, real.resize, real.size) == ("center_crop", resize, size)
    assert compose([f"method={method}", "dataset=mvtec_ad", "preprocess=pad"]).preprocess.mode == "pad"
    assert compose([f"method={method}"]).preprocess.size == 128


@pytest.mark.parametrize(("dataset", "resolution"), [("autovi", "native"), ("mvtec_loco", "native"), ("toy", "model")])
def test_pixel_metrics_are_native_where_the_data_set_scores_so(dataset: str, resolution: str) -> None:
    assert compose([f"dataset={dataset}"]).metrics.resolution == resolution


def test_the_settings_of_table_1_differ_in_loss_and_fdfa_only() -> None:
    a, b, c = (flatten(compose([f"method={name}"])) for name in ("radl_a", "radl_b", "radl"))
    assert {key: a[key] for key in a if a[key] != c[key]} == {"method.loss": "truncated_l1", "method.fdfa": False}
    assert {key: b[key] for key in b if b[key] != c[key]} == {"method.fdfa": False}


@pytest.mark.parametrize("dataset", ["folder", "mvtec_ad", "mvtec_loco", "visa", "autovi"])
def test_nothing_of_the_toy_profile_leaks(dataset: str) -> None:
    config = compose([f"dataset={dataset}"])
    assert config.trainer.max_epochs is None
    assert config.backbone.weights == "hub"
    assert config.preprocess.size == 256
    assert (compose(["metrics=model", f"dataset={dataset}"]).metrics.resolution) == "model"


def test_the_toy_profile_gives_way_to_the_command_line() -> None:
    config = compose(["backbone=resnet50", "preprocess=resize", "trainer=default"])
    assert (config.backbone.name, config.preprocess.mode, config.trainer.max_epochs) == ("resnet50", "resize", None)


@pytest.mark.parametrize(
    ("override", "culprit"),
    [
        ("method.taau=1", "method.taau"),
        ("seeed=1", "seeed"),
        ("seed=x", "seed=x"),
        ("method=nope", "method=nope"),
        ("trainer.max_epochs=many", "many"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(override: str, culprit: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert culprit in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        *("trainer.max_epochs=0", "preprocess.mode=squeeze", "seed=-1", "metrics.frame=half", "method.batch_size=0"),
        *("method.epochs=true", "tracking.patience=nan", "features.limit_gib=nan", "features.resident_gib=-1"),
        *("launcher.jobs=-3", "launcher.jobs=0", "launcher.name=nope", "trainer.threads=0"),
        *("preprocess.fill=7", "preprocess.fill=nan", "preprocess.resize=-3", "preprocess.resize=0"),
    ],
)
def test_values_without_meaning_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].rpartition(".")[2]):
        validate(compose([override]))


def test_a_launcher_of_as_many_as_there_can_be_is_possible_and_a_run_has_none() -> None:
    for jobs in ("-1", "null", "2"):
        validate(compose([f"launcher.jobs={jobs}"]))
    config = compose()
    with open_dict(config):
        del config.launcher
    validate(config)


def test_configuration_tree_is_where_the_package_is() -> None:
    assert (Path(CONF_DIR) / "config.yaml").is_file()

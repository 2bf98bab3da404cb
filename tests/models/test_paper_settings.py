"""What the YAMLs of anomalib's methods say, against papers 002 and 004."""

from typing import Any

import pytest
import timm
from anomalib.models.components import TimmFeatureExtractor
from omegaconf import DictConfig, OmegaConf

from harness.schema import compose, validate


def _config(method: str, *overrides: str, toy: bool = False) -> DictConfig:
    config = compose([f"method={method}", *([] if toy else ["dataset=mvtec_ad"]), *overrides])
    validate(config)
    return config


def _method(method: str, *overrides: str, toy: bool = False) -> dict[str, Any]:
    plain = OmegaConf.to_container(_config(method, *overrides, toy=toy).method, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


AUTOVI = ("cflow", "draem", "draem_perlin", "dsr", "efficient_ad", "efficient_ad_train_norm")


@pytest.mark.parametrize(("method", "epochs"), zip(AUTOVI, (100, 700, 700, 500, 250, 250), strict=True))
def test_epochs_and_size_are_those_of_paper_002(method: str, epochs: int) -> None:
    """Section 4.3, and figure 3."""
    config = _config(method)
    assert config.method.epochs == epochs
    assert (config.preprocess.mode, config.preprocess.size) == ("resize", 256)
    assert _method(method, toy=True)["epochs"] <= 4


def test_efficient_ad_is_the_medium_one_and_its_variant_normalises_on_everything() -> None:
    """Paper 002, sections 4.1, 5.4 and 6.4."""
    default, variant = _method("efficient_ad"), _method("efficient_ad_train_norm")
    assert (default["model_size"], default["normalise_on"], default["holdout"]) == ("medium", "validation", 0.05)
    assert (variant["normalise_on"], variant["holdout"]) == ("train", None)
    assert {key for key in default if default[key] != variant[key]} == {"name", "normalise_on", "holdout"}


def test_draem_without_textures_needs_none_and_is_else_the_same() -> None:
    default, variant = _method("draem"), _method("draem_perlin")
    assert (default["needs"], variant["needs"]) == (["dtd"], [])
    assert {key for key in default if default[key] != variant[key]} == {"name", "needs"}


@pytest.mark.parametrize("method", ["padim", "patchcore"])
def test_paper_002_takes_the_methods_own_settings_on_whole_images(method: str) -> None:
    default, autovi = _method(method), _method(f"{method}_autovi")
    assert {key for key in default if default[key] != autovi[key]} == {"name"}
    preprocess = _config(f"{method}_autovi").preprocess
    assert (preprocess.mode, preprocess.size, preprocess.standardise) == ("resize", 256, False)


def test_patchcore_is_that_of_paper_004() -> None:
    """Table 9; 25 % of the 32×32 patches of 1892 training images (Table 10) are the 484,352 of section 4."""
    config = _config("patchcore_vin")
    method = config.method
    assert (method.num_neighbors, list(method.layers)) == (3, ["layer2", "layer3"])
    assert method.backbone.startswith("wide_resnet50_2")
    assert method.coreset_sampling_ratio * 1892 * (config.preprocess.size // 8) ** 2 == 484_352
    assert (config.preprocess.mode, config.preprocess.standardise) == ("resize", True)


@pytest.mark.parametrize(
    ("backbone", "features", "channels"),
    [
        ("resnet18", 448, 64 + 128 + 256),
        ("resnet50", 550, 256 + 512 + 1024),
        ("wide_resnet50_2", 550, 256 + 512 + 1024),
        ("efficientnet_b5", 344, 40 + 128 + 176),
    ],
)
def test_padims_embeddings_are_those_of_paper_004(backbone: str, features: int, channels: int) -> None:
    """Table 9, and the baselines of Tables 13 to 16."""
    config = _config("padim_vin", f"backbone={backbone}")
    assert config.method.n_features == features
    extractor = TimmFeatureExtractor(timm.create_model(backbone, pretrained=False), list(config.method.layers))
    assert sum(extractor.out_dims) == channels
    assert (config.preprocess.mode, config.preprocess.size, config.preprocess.standardise) == ("resize", 256, True)


def test_padims_default_of_paper_004_is_its_best_backbone_and_the_toy_profile_fits_its_own() -> None:
    config = _config("padim_vin")
    assert config.backbone.name.startswith("efficientnet_b5")
    toy = _method("padim_vin", toy=True)
    assert (toy["layers"], toy["n_features"]) == (["layer1", "layer2", "layer3"], 100)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("auto_classifier", {"epochs": 30, "learning_rate": 1e-3, "momentum": 0.9, "holdout": 0.15}),
        ("auto_classifier_automl", {"epochs": 30, "learning_rate": 1e-3, "momentum": 0.9, "holdout": 0.15}),
        ("auto_classifier_fusion", {"epochs": 30, "learning_rate": 1e-3, "momentum": 0.9, "holdout": 0.15}),
        ("map_assisted_classifier", {"draem_epochs": 700, "draem_batch_size": 8, "draem_learning_rate": 1e-4}),
        ("map_assisted_classifier", {"draem_width": 128, "layers": ["layer4"], "task": "multiclass", "inputs": "both"}),
        ("skip_ganomaly", {"epochs": 30, "learning_rate": 2e-4, "beta1": 0.5, "contextual_weight": 50.0}),
        ("skip_ganomaly", {"adversarial_weight": 1.0, "latent_weight": 1.0, "reconstruction_weight": 0.9}),
        ("cflow", {"batch_size": 32, "lr": 1e-4, "layers": ["layer2", "layer3", "layer4"], "coupling_blocks": 8}),
        ("draem", {"batch_size": 8, "width": 128, "beta": [0.1, 1.0]}),
        ("dsr", {"batch_size": 8, "upsampling_train_ratio": 0.7, "latent_anomaly_strength": 0.2}),
        ("efficient_ad", {"batch_size": 1, "lr": 1e-4, "weight_decay": 1e-5}),
    ],
)
def test_settings_are_those_of_the_papers(method: str, settings: dict[str, Any]) -> None:
    found = _method(method)
    assert {key: found[key] for key in settings} == settings


@pytest.mark.parametrize("method", ["auto_classifier", "auto_classifier_fusion", "skip_ganomaly"])
def test_images_are_those_of_paper_004(method: str) -> None:
    preprocess = _config(method).preprocess
    assert (preprocess.mode, preprocess.size, preprocess.standardise) == ("resize", 256, True)


def test_fusion_has_the_networks_of_table_11_and_supervised_methods_the_split_of_section_3_3() -> None:
    networks = [name.partition(".")[0] for name in _method("auto_classifier_fusion")["backbones"]]
    assert networks == ["vgg11", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101"]
    protocol = _config("auto_classifier").protocol
    assert (protocol.name, protocol.validation, protocol.test) == ("supervised", 0.15, 0.15)

"""Weights: named by content, refused with a remedy, never replaced in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file

from harness.errors import ConfigError, WeightsError
from harness.models.backbones import create_backbone, weights_file, weights_id, with_state
from harness.schema import BackboneConfig


def backbone(weights: str, name: str = "resnet18") -> DictConfig:
    return OmegaConf.structured(BackboneConfig(name=name, weights=weights))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(create_backbone(backbone("random")).state_dict(), path)
    return path


def test_random_weights_are_the_same_whatever_the_seed() -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        states.append(create_backbone(backbone("random")).state_dict())
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_untrained_network_passes_on_what_it_sees() -> None:
    network = create_backbone(backbone("random"))
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        features = network.forward_features(images)
    assert not network.training
    assert features.std(dim=(0, 2, 3)).median() > 0.01


def test_a_file_is_named_by_its_content_and_loaded(saved: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "copy.safetensors"
    elsewhere.write_bytes(saved.read_bytes())
    assert weights_id(backbone(str(saved))) == weights_id(backbone(str(elsewhere)))
    loaded = create_backbone(backbone(str(elsewhere))).state_dict()
    assert torch.equal(loaded["conv1.weight"], create_backbone(backbone("random")).state_dict()["conv1.weight"])
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    assert weights_id(backbone(str(tmp_path / "other.pth"))) != weights_id(backbone(str(saved)))


@pytest.mark.parametrize("content", ["of another network", "truncated", "no weights", "code"])
def test_files_that_do_not_fit_are_refused(content: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / ("weights.pth" if content in ("no weights", "code") else "weights.safetensors")
    if content == "of another network":
        save_file({"blocks.0.weight": torch.zeros(3)}, path)
    elif content == "truncated":
        path.write_bytes(saved.read_bytes()[:1000])
    elif content == "no weights":
        path.write_bytes(b"text")
    else:  # a pickle that would run code: torch loads tensors only
        import pickle

        path.write_bytes(pickle.dumps(os.system))
    with pytest.raises(WeightsError, match=r"weights\.(pth|safetensors)"):
        create_backbone(backbone(str(path)))


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("resnet18.tv_in1k.safetensors", True),
        ("resnet18.tv_in1k.pth", True),
        ("resnet18.safetensors", True),
        ("resnet18.pth", True),
        ("resnet18.a1_in1k.safetensors", False),
        ("resnet34.safetensors", False),
    ],
)
def test_hub_first_looks_into_the_users_folder(file: str, found: bool, saved: Path, tmp_path: Path) -> None:
    state = load_file(saved)
    torch.save(state, tmp_path / file) if file.endswith(".pth") else save_file(state, tmp_path / file)
    wanted = backbone("hub", "resnet18.tv_in1k")
    path = weights_file("resnet18.tv_in1k", "hub", str(tmp_path))
    assert path == (tmp_path / file if found else None)
    if found:
        assert weights_id(wanted, str(tmp_path)) == weights_id(backbone(str(path)))
        assert torch.equal(create_backbone(wanted, str(tmp_path)).state_dict()["conv1.weight"], state["conv1.weight"])


def test_the_file_with_the_tag_goes_before_the_one_without(tmp_path: Path) -> None:
    for file in ("resnet18.pth", "resnet18.tv_in1k.pth"):
        (tmp_path / file).touch()
    assert weights_file("resnet18.tv_in1k", "hub", str(tmp_path)) == tmp_path / "resnet18.tv_in1k.pth"
    assert weights_file("resnet18", "hub", str(tmp_path)) == tmp_path / "resnet18.pth"


def test_a_folder_of_weights_that_is_none_is_named() -> None:
    with pytest.raises(WeightsError, match=r"weights\.dir=nowhere is no folder"):
        weights_id(backbone("hub"), "nowhere")
    assert weights_id(backbone("random"), "nowhere") == "resnet18:random-0"


def test_a_network_without_batch_norm_or_of_another_size_can_be_untrained() -> None:
    first, second = (create_backbone(backbone("random", "vit_tiny_patch16_224")) for _ in range(2))
    assert torch.equal(first.blocks[0].attn.qkv.weight, second.blocks[0].attn.qkv.weight)


def test_options_adapt_given_weights_and_keep_no_copy_of_them() -> None:
    whole = create_backbone(backbone("random"))
    some = with_state("resnet18", whole.state_dict(), features_only=True, out_indices=[1, 2])
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole.layer1(whole.maxpool(whole.act1(whole.bn1(whole.conv1(image)))))
        assert torch.equal(some.eval()(image)[0], expected)
    assert "state_dict" not in some.pretrained_cfg


def test_a_missing_file_and_an_unknown_network_are_named() -> None:
    with pytest.raises(WeightsError, match="neither hub, nor random, nor a file"):
        weights_id(backbone("hubb"))
    with pytest.raises(ConfigError, match="resnet81 is not a network of timm"):
        weights_id(backbone("hub", "resnet81"))


def test_a_hub_out_of_reach_tells_about_local_files_and_is_asked_once() -> None:
    code = (
        "import time\n"
        "from omegaconf import OmegaConf\n"
        "from harness.models.backbones import weights_id\n"
        "from harness.schema import BackboneConfig\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        weights_id(OmegaConf.structured(BackboneConfig(name='resnet18', weights='hub')))\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    with_empty_cache = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": "nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=with_empty_cache, capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert all(line.startswith("WeightsError") and "backbone.weights=PATH" in line for line in lines)


def test_options_go_to_timm_and_are_part_of_the_name() -> None:
    plain = OmegaConf.create({"name": "mobilenetv2_100", "weights": "random"})
    same = OmegaConf.merge(plain, {"options": {"pad_type": "same"}})
    assert weights_id(plain) == "mobilenetv2_100:random-0"
    assert weights_id(same) == "mobilenetv2_100(pad_type=same):random-0"
    stems = [create_backbone(backbone).get_submodule("conv_stem") for backbone in (plain, same)]
    assert [type(stem).__name__ for stem in stems] == ["Conv2d", "Conv2dSame"]

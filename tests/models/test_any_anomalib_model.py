"""`method=anomalib method.model=NAME`: any of anomalib's image models, with the weights that the harness means."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any, ClassVar

import pytest
import timm
import torch
from anomalib import LearningType
from anomalib.data import ImageBatch
from anomalib.models.components import AnomalibModule, MemoryBankMixin
from lightning import LightningModule, Trainer
from safetensors.torch import save_file
from torchvision.models import WeightsEnum, get_model

from harness.errors import ConfigError, WeightsError
from harness.identity import run_key
from harness.models import generic
from harness.models.adapter import _model_class, _own_normalisation, _trained, build_model, is_trainable
from harness.models.backbones import create_backbone
from harness.models.weights.identity import weights_id
from harness.models.weights.serving import Source, serve
from harness.runs.execute import execute
from harness.schema import compose

SMALL = ("preprocess=resize", "preprocess.size=64", "trainer=quick", "trainer.max_epochs=1", "features.store=off")
CLIP = [0.48145466, 0.4578275, 0.40821073]
NAMES = sorted(name for name, _ in set(generic._packages().values()))


def composed(model: str, *overrides: str) -> Any:
    given = ("method=anomalib", f"method.model={model}", "dataset=folder", "backbone.weights=random", *SMALL)
    return compose([*given, *overrides])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_from_a_models_source_is_true(name: str) -> None:
    described = generic.describe(name)
    model_class = _model_class(name)
    assert described.arguments == set(inspect.signature(model_class).parameters)
    zero_shot = model_class.training_step is LightningModule.training_step
    assert described.one_pass == (zero_shot or issubclass(model_class, MemoryBankMixin))


@pytest.mark.parametrize("typed", ["ReverseDistillation", "reverse_distillation", "reversedistillation"])
def test_a_model_is_one_run_however_its_name_is_typed(typed: str) -> None:
    keys = {run_key(composed(model), "data", "weights") for model in (typed, "ReverseDistillation")}
    assert len(keys) == 1
    assert composed(typed).method.name == "reverse_distillation"


def test_a_run_is_called_after_its_model() -> None:
    assert composed("AnomalyDINO").method.name == "anomaly_dino"
    assert composed("Patchcore").method.name == "anomalib_patchcore"  # the harness has one of its own
    assert (composed("Dfm").method.epochs, composed("Dfm", "trainer=default").method.epochs) == (1, 1)
    assert (composed("Stfpm").method.epochs, composed("Stfpm", "trainer=default").method.epochs) == (3, 100)


def test_an_unknown_name_gets_those_that_are_close() -> None:
    config = composed("Fastflo")
    with pytest.raises(ConfigError, match=r"Fastflo is no image model of anomalib's; did you mean Fastflow"):
        weights_id(config)
    with pytest.raises(ConfigError, match=r"it has .*Fastflow"):
        generic.canonical("xyz")


def test_an_argument_that_is_not_in_the_yaml_is_added_with_a_plus() -> None:
    with pytest.raises(ConfigError, match=r"\+method\.flow_steps"):
        composed("Fastflow", "method.flow_steps=2")
    model: Any = build_model(
        composed("Fastflow", "+method.flow_steps=2", "backbone=resnet18", "backbone.weights=random")
    )
    assert len(model.model.fast_flow_blocks[0]) == 2
    with pytest.raises(ConfigError, match=r"method\.flow_step is not an argument of Fastflow; it takes .*flow_steps"):
        build_model(composed("Fastflow", "+method.flow_step=2"))


LIGHT = ("Fastflow", "Stfpm", "ReverseDistillation backbone=resnet18 backbone.weights=random", "Dfm backbone=resnet18")


@pytest.mark.parametrize("command", LIGHT)
def test_a_run_of_it_is_a_run_as_any_other(command: str, folder: Path, tmp_path: Path) -> None:
    model, *overrides = command.split()
    weights = [] if "backbone.weights=random" in overrides else ["backbone.weights=random"]
    where = [f"dataset.root={folder.parent}", f"category={folder.name}", f"tracking.directory={tmp_path}"]
    done = execute(composed(model, *overrides, *weights, *where))
    assert (done.status, done.reason) == ("finished", "")
    assert done.method == generic.describe(model).package
    assert 0 <= done.metrics["test/image_auroc"] <= 1 and 0 <= done.metrics["test/pixel_auroc"] <= 1


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with weights of ResNet18 that are none of ours."""
    network = create_backbone(compose(["backbone=resnet18", "backbone.weights=random"]).backbone)
    state = {name: value * 1.5 if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_file(state, tmp_path / "resnet18.safetensors")
    return tmp_path


def test_networks_that_a_model_loads_itself_come_from_the_users_folder(weights: Path) -> None:
    config = composed("Stfpm", "backbone.weights=hub", f"weights.dir={weights}")
    model: Any = build_model(config)
    kept = model.model.teacher_model.feature_extractor.state_dict()["conv1.weight"]
    untrained: Any = build_model(composed("Stfpm"))
    ours = untrained.model.teacher_model.feature_extractor.state_dict()["conv1.weight"]
    assert torch.equal(kept, ours * 1.5)
    content = hashlib.sha256((weights / "resnet18.safetensors").read_bytes()).hexdigest()[:16]
    assert model.harness_weights == weights_id(config) == f"resnet18:file-{content}"
    assert untrained.harness_weights == "resnet18:random-0"


def test_a_file_for_the_backbone_is_used_and_named(weights: Path) -> None:
    config = composed("Stfpm", f"backbone.weights={weights / 'resnet18.safetensors'}")
    assert weights_id(config).startswith("stfpm:file-")
    assert build_model(config).harness_weights.startswith("resnet18:file-")
    with pytest.raises(WeightsError, match=r"do not fit backbone\.name=resnet50"):
        build_model(composed("Dfm", f"backbone.weights={weights / 'resnet18.safetensors'}"))


def test_loading_by_name_is_as_before_when_a_model_is_built() -> None:
    before = timm.create_model, WeightsEnum.get_state_dict
    build_model(composed("Stfpm"))
    assert (timm.create_model, WeightsEnum.get_state_dict) == before
    with pytest.raises(ConfigError):
        build_model(composed("Stfpm", "backbone=resnet18", "method.backbone=nothing", "backbone.name=nothing"))
    assert (timm.create_model, WeightsEnum.get_state_dict) == before


class TestTorchvision:
    """Cfa, CS-Flow and UniNet take torchvision's weights, which torchvision itself would unpickle."""

    FILE = "resnet18-f37072fd.pth"

    def load(self, source: Source) -> dict[str, torch.Tensor]:
        with serve(source):
            return get_model("resnet18", weights="DEFAULT").state_dict()

    def test_a_file_by_torchvisions_name_is_checked_against_its_hash(self, tmp_path: Path) -> None:
        torch.save(get_model("resnet18").state_dict(), tmp_path / self.FILE)
        with pytest.raises(WeightsError, match=r"damaged: their SHA-256 does not start with f37072fd"):
            self.load(Source("hub", str(tmp_path)))

    def test_a_file_is_loaded(self, tmp_path: Path) -> None:
        state = get_model("resnet18").state_dict()
        save_file(state, tmp_path / "any.safetensors")
        source = Source(str(tmp_path / "any.safetensors"))
        assert torch.equal(self.load(source)["conv1.weight"], state["conv1.weight"])
        assert source.names().startswith("torchvision/resnet18-f37072fd:file-")

    def test_a_file_that_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        save_file({"weight": torch.zeros(1)}, tmp_path / "any.safetensors")
        with pytest.raises(WeightsError, match="do not fit torchvision's network"):
            self.load(Source(str(tmp_path / "any.safetensors")))

    def test_untrained_networks_are_always_the_same(self) -> None:
        first, second = Source("random"), Source("random")
        assert torch.equal(self.load(first)["layer1.0.bn1.running_var"], self.load(second)["layer1.0.bn1.running_var"])
        assert first.names() == "torchvision/resnet18-f37072fd:random-0"

    def test_a_hub_out_of_reach_names_the_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
        with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth cannot be had .*weights\.dir=FOLDER"):
            self.load(Source("hub"))


def test_the_random_state_is_untouched_by_naming_weights(weights: Path) -> None:
    config = composed("Stfpm", "backbone.weights=hub", f"weights.dir={weights}", "seed=7")
    before = torch.get_rng_state()
    weights_id(config)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("model", "means"), [("Stfpm", [0.485, 0.456, 0.406]), ("WinClip", CLIP), ("Draem", None)])
def test_a_model_normalises_as_anomalib_does_for_it(model: str, means: list[float] | None) -> None:
    found = _own_normalisation(_model_class(model))
    assert [list(step.mean) for step in found] == ([] if means is None else [pytest.approx(means)])


class ZeroShot(AnomalibModule):
    """Scores by brightness, as it is."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(pre_processor=False, post_processor=False, evaluator=False, visualizer=False)
        self.model = torch.nn.Linear(1, 1)
        self.gain = gain

    learning_type = LearningType.ZERO_SHOT
    trainer_arguments: ClassVar[dict[str, Any]] = {}


def test_a_zero_shot_model_goes_through_training_unchanged() -> None:
    model = _trained(ZeroShot)(gain=2.0)
    before = model.model.weight.clone()
    batches = [ImageBatch(image=torch.rand(2, 3, 8, 8)) for _ in range(2)]
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    Trainer(max_epochs=1, enable_model_summary=False, **options).fit(model, batches)
    assert torch.equal(model.model.weight, before) and model.gain == 2.0
    assert not is_trainable(model)
    assert _trained(_model_class("Stfpm")) is _model_class("Stfpm")


def test_textures_reach_the_argument_that_takes_them(tmp_path: Path) -> None:
    given = ("+method.input_shape=[64,64]", "method.needs=[dtd]", "weights=random", f"tracking.directory={tmp_path}")
    config = composed("Glass", "backbone=resnet18", "backbone.weights=random", "+method.pretrain_embed_dim=64", *given)
    model: Any = build_model(config)
    assert model.model.augmentor.anomaly_source_paths
    assert weights_id(config) == "resnet18:random-0 + dtd:random-0"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("Draem", "method=draem takes it from weights.dir"),
        ("EfficientAd", "method=efficient_ad takes it from weights.dir"),
        ("WinClip", "open_clip"),
        ("VlmAd", "a service runs"),
        ("CFM", "no depth images"),
        ("MHPatchcore", "only after its third pass"),
    ],
)
def test_what_cannot_run_says_what_it_lacks(model: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_model(composed(model))


def test_what_harness_and_model_both_go_by_is_the_same_for_both(tmp_path: Path) -> None:
    common = ("backbone=resnet18", "backbone.weights=random", f"tracking.directory={tmp_path}")
    plain: Any = build_model(composed("Supersimplenet", *common))
    assert plain.hparams["supervised"] is False
    model: Any = build_model(composed("Supersimplenet", *common, "+method.supervised=true", "protocol=supervised"))
    assert model.hparams["supervised"] is True


@pytest.mark.parametrize("model", ["WinClip", "AnomalyVFM"])
def test_weights_of_a_models_own_are_never_called_random(model: str) -> None:
    config = composed(model, "backbone.weights=hub")
    assert weights_id(config).endswith(":own")
    with pytest.raises(ConfigError, match="cannot stand in"):
        build_model(composed(model, "backbone.weights=random"))

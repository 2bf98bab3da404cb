"""The anomaly-map assisted classifier: its features, its choice of them, its two stages."""

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from anomalib.data import ImageBatch
from anomalib.data.dataclasses.torch import ImageItem
from lightning import LightningDataModule, seed_everything
from lightning.pytorch import Trainer
from PIL import Image as PilImage
from sklearn.feature_selection import mutual_info_classif
from torch import nn
from torch.utils.data import DataLoader
from torchvision.tv_tensors import Image

from harness.errors import ConfigError, TrainingError, WeightsError
from harness.models.draem import Draem
from harness.models.draem.torch_model import build_draem
from harness.models.map_assisted_classifier import MapAssistedClassifier
from harness.models.map_assisted_classifier.classifier import InformedClassifier
from harness.models.map_assisted_classifier.draem import DraemTraining, build_generator, good_images

CLASSES = ("good", "hole", "line")
INPUTS = pytest.mark.parametrize("inputs", ["image", "map", "both"])


def _images(seed: int, count: int) -> torch.Tensor:
    """Grey images (count, 3, 64, 64) in [0, 1]: in turn good, with a coloured square, with a dark line."""
    generator = np.random.default_rng(seed)
    images = np.clip(generator.normal(0.5, 0.05, (count, 3, 64, 64)), 0, 1)
    for index, image in enumerate(images):
        row, column = generator.integers(4, 36, 2)
        if index % 3 == 1:
            image[:, row : row + 24, column : column + 24] = generator.uniform(0, 1, (3, 1, 1))
        if index % 3 == 2:
            image[:, row : row + 6] = 0.05
    return torch.from_numpy(images).float()


class _Data(LightningDataModule):
    """Labelled training images, in batches of six."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        names = [CLASSES[index % 3] for index in range(len(images))]
        self.items = [
            ImageItem(
                image=Image(image), gt_label=torch.tensor(name != "good"), image_path=f"part/{name}/{index:03}.png"
            )
            for index, (image, name) in enumerate(zip(images, names, strict=True))
        ]

    def train_dataloader(self) -> DataLoader:
        order = torch.Generator().manual_seed(0)
        return DataLoader(self.items, 6, shuffle=True, generator=order, collate_fn=ImageBatch.collate)


def _backbone() -> nn.Module:
    """Two untrained layers, the same ones every time."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = nn.Sequential()
        layers.add_module("layer1", nn.Conv2d(3, 32, 5, stride=2))
        layers.add_module("norm", nn.BatchNorm2d(32))
        layers.add_module("layer2", nn.Sequential(nn.ReLU(), nn.Conv2d(32, 64, 5, stride=2), nn.ReLU()))
        return layers


def _classifier(**settings: object) -> MapAssistedClassifier:
    given = {"classes": CLASSES, "backbone": _backbone(), "layers": ["layer2"], "draem_width": 4, "draem_epochs": 1}
    quiet = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}
    return MapAssistedClassifier(**given | quiet | settings)


def _fit(module: MapAssistedClassifier, images: torch.Tensor, epochs: int = 1) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=_Data(images))
    module.eval()
    return trainer


def test_features_are_the_average_pool_of_the_image_and_of_its_map() -> None:
    reference = timm.create_model("resnet18", zero_init_last=False).eval()
    model = _classifier(backbone=copy.deepcopy(reference), layers=["layer4"]).model.eval()
    images = _images(0, 2)
    features, maps = model.describe(images)
    normalise = timm.data.create_transform(input_size=(3, 64, 64)).transforms[-1]
    with torch.no_grad():
        logits = model.draem.discriminative_subnetwork(
            torch.cat([images, model.draem.reconstructive_subnetwork(images)], dim=1)
        )
        expected_maps = logits.exp()[:, 1:] / logits.exp().sum(dim=1, keepdim=True)
        grey = expected_maps.repeat(1, 3, 1, 1)
        expected = [
            reference.forward_head(reference.forward_features(normalise(x)), pre_logits=True) for x in (images, grey)
        ]
    assert features.shape == (2, 1024)
    torch.testing.assert_close(maps, expected_maps)
    torch.testing.assert_close(features, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-5)


@INPUTS
def test_scores_maps_and_probabilities_of_any_batch(inputs: str) -> None:
    model = _classifier(inputs=inputs).model.eval()
    images = torch.rand(3, 3, 64, 96)
    output = model(images)
    assert output.pred_score.shape == (3,)
    assert output.class_probabilities.shape == (3, 3)
    torch.testing.assert_close(output.pred_score, 1 - output.class_probabilities[:, 0])
    assert output.anomaly_map is None if inputs == "image" else output.anomaly_map.shape == (3, 1, 64, 96)
    torch.testing.assert_close(model(images[1:2]).pred_score, output.pred_score[1:2])
    assert (model.draem is None) == (inputs == "image")


def test_logits_are_those_of_the_formula() -> None:
    classifier = InformedClassifier(30, 3)
    features, targets = torch.randn(50, 30), torch.arange(50) % 3
    classifier.choose(features, targets)
    state = {name: value.double().numpy() for name, value in classifier.state_dict().items()}
    assert {name: value.shape for name, value in state.items() if name.endswith("weight")} == {
        "first.weight": (512, 7),
        "second.weight": (100, 512),
        "output.weight": (3, 100),
    }

    x = (features.double().numpy()[:, state["chosen"].astype(int)] - state["mean"]) / state["std"]
    x = np.maximum(x @ state["first.weight"].T + state["first.bias"], 0)
    x = x @ state["second.weight"].T + state["second.bias"]
    x = x @ state["output.weight"].T + state["output.bias"]
    np.testing.assert_allclose(classifier(features).detach().numpy(), x, atol=1e-5)


def test_the_features_with_most_information_are_chosen_and_standardised() -> None:
    targets = torch.arange(120) % 3
    features = torch.randn(120, 40)
    informative = torch.tensor([3, 17, 25, 31])
    features[:, informative] += 9.0 * targets[:, None]
    features[:, 5] = 2.0  # constant
    classifier = InformedClassifier(40, 3)
    torch.manual_seed(4)
    classifier.choose(features, targets)
    assert len(classifier.chosen) == 10  # ⌊√120⌋
    assert set(classifier.chosen[:4].tolist()) == set(informative.tolist())

    torch.manual_seed(4)
    seed = int(torch.randint(2**31, (1,)))
    information = mutual_info_classif(features.double().numpy(), targets.numpy(), random_state=seed)
    assert sorted(information[classifier.chosen], reverse=True) == list(information[classifier.chosen])
    assert information[classifier.chosen].min() >= np.delete(information, classifier.chosen).max()
    best = features.numpy()[:, classifier.chosen.numpy()]
    np.testing.assert_allclose(classifier.mean.numpy(), best.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(classifier.std.numpy(), best.std(axis=0), rtol=1e-4)


def test_constant_features_and_few_images_are_no_obstacle() -> None:
    classifier = InformedClassifier(2, 2)
    classifier.choose(torch.ones(9, 2), torch.arange(9) % 2)
    assert len(classifier.chosen) == 2  # not √9 of two
    assert classifier(torch.ones(1, 2)).isfinite().all()


def test_draem_is_shown_all_good_images_and_nothing_else() -> None:
    images = _images(0, 21)
    groups = list(good_images(_Data(images).train_dataloader(), 4))
    assert [len(group) for group in groups] == [4, 3]
    shown = sorted(float(image.sum()) for group in groups for image in group)
    assert shown == sorted(float(image.sum()) for image in images[::3])


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images in two folders."""
    root = tmp_path_factory.mktemp("dtd")
    generator = np.random.default_rng(0)
    for name in ("striped/1.jpg", "dotted/2.png", "dotted/1.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        PilImage.fromarray(generator.integers(0, 255, (70, 80, 3), dtype=np.uint8)).save(root / name)
    return root


def test_draem_is_trained_as_the_method_of_its_name(textures: Path) -> None:
    images = _images(0, 5)
    draem, reference = build_draem(4), Draem(dtd=textures, width=4)
    reference.model = copy.deepcopy(draem)
    torch.manual_seed(7)  # the generator's constructor draws too
    training = DraemTraining(draem, build_generator(textures), epochs=2, learning_rate=1e-4)
    batch = ImageBatch(image=images, gt_label=torch.zeros(5, dtype=torch.bool))
    loss = training.run([batch], batch_size=3)

    torch.manual_seed(7)
    reference.augmenter = build_generator(textures)
    (optimizer,), _ = reference.configure_optimizers()
    losses = []
    for _ in range(2):
        for part in images.split(3):
            step = reference.training_step(ImageBatch(image=part))["loss"]
            optimizer.zero_grad()
            step.backward()
            optimizer.step()
            losses.append(step.item() * len(part))
    assert loss == pytest.approx(sum(losses[2:]) / 5)
    assert not draem.training
    assert not any(parameter.requires_grad for parameter in draem.parameters())
    for ours, theirs in zip(draem.state_dict().values(), reference.model.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_textures_are_found_in_an_order_of_their_own_and_must_exist(textures: Path, tmp_path: Path) -> None:
    found = [path.relative_to(textures).as_posix() for path in build_generator(textures).anomaly_source_paths]
    assert found == ["dotted/1.jpg", "dotted/2.png", "striped/1.jpg"]
    with pytest.raises(WeightsError, match="holds no images"):
        _classifier(dtd=tmp_path)
    _classifier(dtd=tmp_path, inputs="image")  # needs none


def test_the_learning_rate_falls_where_draems_does() -> None:
    draem = nn.Conv2d(1, 1, 1)
    for epochs, milestones in ((700, [400, 600]), (7, [4, 6]), (3, [2, 3])):
        training = DraemTraining(draem, build_generator(None), epochs, learning_rate=1e-4)
        assert sorted(training._schedule.milestones) == milestones


def test_a_fit_trains_draem_then_the_perceptron_alone() -> None:
    seed_everything(0)
    module, images = _classifier(inputs="both"), _images(0, 30)
    before = copy.deepcopy(module.model.state_dict())
    trainer = _fit(module, images, epochs=3)
    after = module.model.state_dict()
    assert {"train/loss", "train/loss_draem"} <= set(trainer.callback_metrics)
    assert len(module.model.classifier.chosen) == 5  # ⌊√30⌋
    assert all(value.equal(before[name]) for name, value in after.items() if name.startswith("pooled"))
    assert any(not value.equal(before[name]) for name, value in after.items() if name.startswith("draem"))

    module.train()
    assert not module.model.draem.training
    assert not module.model.pooled.extractor.training
    trained = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.model.parameters() if p.requires_grad}


def test_the_first_stages_features_are_those_of_the_frozen_networks() -> None:
    """What the epochs see of a training image is what inference computes; of an augmented image, its own features."""
    module, images = _classifier(), _images(0, 12)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = module._describe

    def spy(batch: torch.Tensor) -> torch.Tensor:
        seen.append((batch, original(batch)))
        return seen[-1][1]

    module._describe = spy  # type: ignore[method-assign]
    _fit(module, images)
    assert len(seen) == 2
    for batch, features in seen:
        torch.testing.assert_close(features, module.model.describe(batch)[0], rtol=1e-4, atol=1e-5)
    flipped = images.flip(3)
    torch.testing.assert_close(original(flipped), module.model.describe(flipped)[0])


@pytest.mark.parametrize("classes", [CLASSES, ("good", "anomalous")], ids=["multiclass", "binary"])
def test_it_learns_to_tell_classes(classes: tuple[str, ...]) -> None:
    seed_everything(0)
    module = _classifier(classes=classes, inputs="image", learning_rate=3e-3)
    _fit(module, _images(0, 48), epochs=15)
    with torch.inference_mode():
        output = module.model(_images(1, 30))
    truth = torch.arange(30) % 3
    truth = truth if len(classes) == 3 else truth.clamp(max=1)
    assert (output.class_probabilities.argmax(dim=1) == truth).float().mean() > 0.8


@pytest.mark.parametrize("inputs", ["image", "both"])
def test_the_same_seed_gives_the_same_scores_and_a_state_dict_carries_them(
    inputs: str, textures: Path, tmp_path: Path
) -> None:
    def run(seed: int) -> tuple[MapAssistedClassifier, torch.Tensor]:
        seed_everything(seed)
        module = _classifier(inputs=inputs, dtd=textures)
        _fit(module, _images(0, 18))
        with torch.inference_mode():
            return module, module.model(_images(1, 5)).class_probabilities

    module, first = run(0)
    assert first.equal(run(0)[1])
    assert not first.equal(run(1)[1])

    torch.save(module.state_dict(), tmp_path / "state.pt")
    fresh = _classifier(inputs=inputs).eval()
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with torch.inference_mode():
        assert fresh.model(_images(1, 5)).class_probabilities.equal(first)
    assert not {"backbone", "dtd"} & set(module.hparams)


def test_batches_come_back_with_scores_maps_and_probabilities() -> None:
    module = _classifier().eval()
    batch = ImageBatch.collate(_Data(_images(0, 4)).items)
    with torch.inference_mode():
        found = module.test_step(batch, 0)
    assert found.pred_score.shape == (4,)
    assert found.class_probabilities.shape == (4, 3)
    assert found.anomaly_map.shape == (4, 64, 64)


def test_inference_draws_no_random_number() -> None:
    model = _classifier().model.eval()
    state = torch.get_rng_state()
    model(_images(0, 2))
    assert state.equal(torch.get_rng_state())


def test_what_cannot_be_trained_says_why() -> None:
    images = _images(0, 9)
    with pytest.raises(TrainingError, match=r"DRAEM's loss is (nan|inf)"):
        _fit(_classifier(draem_learning_rate=1e30, draem_epochs=3), images)
    defective = _Data(images[1:3])
    with pytest.raises(TrainingError, match="no good images"):
        DraemTraining(build_draem(4), build_generator(None), 1, 1e-4).run(
            [
                ImageBatch(
                    image=torch.stack([i.image for i in defective.items]), gt_label=torch.ones(2, dtype=torch.bool)
                )
            ],
            8,
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": "mask"}, "inputs=mask is not possible; choose one of image, map, both"),
        ({"draem_epochs": 0}, "draem_epochs=0"),
        ({"draem_width": 3}, "3 channels wide"),
        ({"layers": ["layer9"]}, "layer9"),
        ({"backbone": "resnet18", "pre_trained": False, "layers": ["layer9"]}, "layer9"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _classifier(**settings)

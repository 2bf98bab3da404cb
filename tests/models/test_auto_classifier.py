"""Auto-Classifier: fine-tuning, the choice of epochs, the fusion of votes and the searched head."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import timm
import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from lightning.pytorch import Trainer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader
from torchvision.tv_tensors import Image

from harness.errors import ConfigError, TrainingError
from harness.models.auto_classifier import AutoClassifier, AutoClassifierAutoml, AutoClassifierFusion
from harness.models.auto_classifier.automl import FAMILIES, SearchedHead, build, search
from harness.models.auto_classifier.fine_tuning import FineTuned
from harness.models.auto_classifier.selection import BestEpoch, Validated, validated
from harness.models.auto_classifier.torch_model import AutomlModel, FusionModel

SIZE = (48, 64)
FAST = {"pre_trained": False, "learning_rate": 0.02}
OFF = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}
KINDS = ("good", "hole", "stain")
Build = Callable[..., FineTuned]


def _single(**arguments: Any) -> FineTuned:
    return AutoClassifier("test_resnet", **(FAST | OFF | arguments))


def _fusion(**arguments: Any) -> FineTuned:
    return AutoClassifierFusion(["test_resnet", "test_efficientnet"], **(FAST | OFF | arguments))


def _automl(**arguments: Any) -> FineTuned:
    return AutoClassifierAutoml(["test_resnet"], **(FAST | OFF | {"trials": 4} | arguments))


BUILDERS = {"single": _single, "fusion": _fusion, "automl": _automl}
EVERY = pytest.mark.parametrize("build_model", BUILDERS.values(), ids=BUILDERS)


def _image(generator: np.random.Generator, kind: str) -> torch.Tensor:
    """Return 3×48×64 of noise, with a bright or a dark square where it is defective."""
    image = generator.normal(0, 0.5, (3, *SIZE))
    if kind != "good":
        row, column = generator.integers(4, 24, 2)
        image[:, row : row + 20, column : column + 20] += 3 if kind == "hole" else -3
    return torch.from_numpy(image).float()


def _items(seed: int, count: int, kinds: Sequence[str] = KINDS[:2]) -> list[ImageItem]:
    """Return `count` images of each kind."""
    generator = np.random.default_rng(seed)
    return [
        ImageItem(
            image=Image(_image(generator, kind)),
            gt_label=torch.tensor(int(kind != "good")),
            image_path=f"thing/test/{kind}/{index}.png",
        )
        for kind in kinds
        for index in range(count)
    ]


def _loader(items: list[ImageItem], shuffle: bool = False) -> DataLoader:
    return DataLoader(items, 8, shuffle=shuffle, collate_fn=ImageBatch.collate)


def _images(items: list[ImageItem]) -> torch.Tensor:
    return torch.stack([item.image.as_subclass(torch.Tensor) for item in items])


def _fit(
    model: FineTuned,
    train: list[ImageItem],
    validation: list[ImageItem] | None,
    epochs: int = 2,
    callbacks: Sequence[lightning.Callback] = (),
    **arguments: Any,
) -> Trainer:
    trainer = _trainer(epochs, callbacks, **arguments)
    trainer.fit(model, _loader(train, shuffle=True), None if validation is None else _loader(validation))
    return trainer


def _trainer(epochs: int, callbacks: Sequence[lightning.Callback] = (), **arguments: Any) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **arguments,
    )


def _judge(model: FineTuned, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores and class probabilities."""
    model.eval()
    with torch.no_grad():
        output = model.model(images)
    return output.pred_score, output.class_probabilities


@pytest.fixture(scope="module", params=BUILDERS)
def trained(request: pytest.FixtureRequest) -> tuple[FineTuned, Trainer]:
    """A model that knows three classes, and who trained it."""
    torch.manual_seed(0)
    model = BUILDERS[request.param](classes=KINDS)
    return model, _fit(model, _items(0, 16, KINDS), _items(1, 6, KINDS), epochs=3)


def test_kinds_of_defect_that_were_seen_are_told_apart(trained: tuple[FineTuned, Trainer]) -> None:
    scores, probabilities = _judge(trained[0], _images(_items(2, 10, KINDS)))

    assert roc_auc_score([0] * 10 + [1] * 20, scores) > 0.95
    assert probabilities.shape == (30, 3)
    assert (probabilities.argmax(dim=1) == torch.arange(3).repeat_interleave(10)).float().mean() > 0.8
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(30))
    torch.testing.assert_close(scores, 1 - probabilities[:, 0])


def test_one_image_and_grey_ones_are_judged_as_in_a_batch(trained: tuple[FineTuned, Trainer]) -> None:
    grey = torch.rand(3, 1, 40, 72).expand(-1, 3, -1, -1)
    together = _judge(trained[0], grey)[0]
    alone = [_judge(trained[0], grey[i : i + 1])[0] for i in range(3)]
    assert alone[0].shape == (1,)
    torch.testing.assert_close(torch.cat(alone), together)


def test_a_fresh_model_with_the_state_of_another_gives_equal_scores(
    trained: tuple[FineTuned, Trainer], tmp_path: Path
) -> None:
    model, images = trained[0], _images(_items(2, 3, KINDS))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    again = type(model)(**model.hparams, **OFF)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))

    for one, other in zip(_judge(model, images), _judge(again, images), strict=True):
        assert one.equal(other)


def test_a_checkpoint_gives_equal_scores(trained: tuple[FineTuned, Trainer], tmp_path: Path) -> None:
    model, images = trained[0], _images(_items(2, 3))
    trained[1].save_checkpoint(tmp_path / "model.ckpt")
    loaded = type(model).load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu", **OFF)
    assert loaded.classes == KINDS
    assert _judge(loaded, images)[0].equal(_judge(model, images)[0])


@EVERY
def test_the_same_seed_gives_the_same_scores(build_model: Build) -> None:
    images, scores = _images(_items(2, 3)), []
    for _ in range(2):
        lightning.seed_everything(3, verbose=False)
        model = build_model(trials=2) if build_model is _automl else build_model()
        _fit(model, _items(0, 6), _items(1, 2), epochs=1)
        scores.append(_judge(model, images)[0])
    assert scores[0].equal(scores[1])


class _Watch(lightning.Callback):
    """Keeps what an onlooker sees: the weights and validation results of every epoch, and the weights at the end."""

    def __init__(self, validation: list[ImageItem]) -> None:
        self.images, self.labels = _images(validation), [int(item.gt_label) for item in validation]
        self.states: list[dict[str, torch.Tensor]] = []
        self.results: list[tuple[float, float]] = []
        self.logged: list[float] = []
        self.seen_later: list[dict[str, torch.Tensor]] = []
        self.final: dict[str, torch.Tensor] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.logged.append(float(trainer.callback_metrics["train/chosen_epoch"]))
        self.states.append(_copy(pl_module))
        probabilities = _judge(pl_module, self.images)[1]
        pl_module.train()
        auroc = roc_auc_score(self.labels, probabilities[:, 1])
        self.results.append((round(auroc, 9), -log_loss(self.labels, probabilities.double())))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch:
            self.seen_later.append(_copy(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.final = _copy(pl_module)


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def _mislabelled(items: list[ImageItem]) -> list[ImageItem]:
    return [ImageItem(image=item.image, gt_label=~item.gt_label.bool(), image_path=item.image_path) for item in items]


def test_the_weights_of_the_best_validation_epoch_are_there_when_callbacks_see_the_end_of_training() -> None:
    validation = _items(1, 6)
    watch = _Watch(validation)
    _fit(_single(), _mislabelled(_items(0, 16)), validation, 5, [watch])  # wrong labels: the longer, the worse

    best = [watch.results.index(max(watch.results[: epoch + 1])) for epoch in range(5)]
    assert best[-1] < 4, "the test needs a best epoch before the last one"
    assert watch.logged == best
    assert _equal(watch.final, watch.states[best[-1]])
    # until then the weights are the current ones
    assert all(_equal(later, state) for later, state in zip(watch.seen_later, watch.states[:-1], strict=True))


def test_training_that_ends_early_is_finished_too() -> None:
    model, validation = _single(), _items(1, 6)
    watch = _Watch(validation)
    trainer = _fit(model, _mislabelled(_items(0, 16)), validation, 9, [watch], max_steps=12)  # three epochs of four
    assert trainer.current_epoch == 3
    best = watch.results.index(max(watch.results))
    assert best < 2, "the test needs a best epoch before the last one"
    assert _equal(_copy(model), watch.states[best])


def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    _fit(_single(), _items(0, 8), _items(1, 4), epochs=1).save_checkpoint(tmp_path / "model.ckpt")
    trainer = _trainer(epochs=2)
    trainer.fit(_single(), _loader(_items(0, 8)), _loader(_items(1, 4)), ckpt_path=tmp_path / "model.ckpt")
    assert trainer.current_epoch == 2
    assert trainer.callback_metrics["train/chosen_epoch"] == 1


def test_of_equal_epochs_the_earliest_is_kept_and_a_better_auroc_outweighs_likelihood() -> None:
    network, best = nn.Linear(1, 1), BestEpoch()
    offers = [Validated(0.5, -1.0), Validated(0.9, -2.0), Validated(0.9, -2.0), Validated(0.8, -0.1)]
    for epoch, result in enumerate(offers):
        nn.init.constant_(network.weight, epoch)
        best.offer(epoch, result, network)
    best.restore(network)
    assert best.epoch == 1
    assert network.weight.item() == 1


def test_validation_results_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    probabilities, targets = generator.dirichlet(np.ones(3), 40), generator.integers(0, 3, 40)
    result = validated(probabilities, targets)
    assert result.auroc == pytest.approx(roc_auc_score(targets > 0, 1 - probabilities[:, 0]))
    assert result.log_likelihood == pytest.approx(-log_loss(targets, probabilities, labels=[0, 1, 2]))


class _Fixed(nn.Module):
    """A network that says the same of every image, in the shape of timm's."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def test_votes_are_weighted_by_validation_auroc() -> None:
    logits = {"a": [2.0, 0.0, -1.0], "b": [0.0, 1.0, 0.5], "c": [-3.0, 0.2, 0.0]}
    aurocs = np.array([0.6, 0.9, 0.75])
    model = FusionModel({name: _Fixed(values) for name, values in logits.items()}).eval()
    model.weigh([Validated(auroc, -1.0) for auroc in aurocs])

    powers = np.exp(np.array(list(logits.values())))
    expected = aurocs / aurocs.sum() @ (powers / powers.sum(axis=1, keepdims=True))
    output = model(torch.zeros(2, 3, 8, 8))
    np.testing.assert_allclose(output.class_probabilities, [expected] * 2, rtol=1e-6)
    np.testing.assert_allclose(output.pred_score, [1 - expected[0]] * 2, rtol=1e-6)


def test_networks_without_any_merit_vote_alike() -> None:
    model = FusionModel({"a": _Fixed([1.0, 0.0]), "b": _Fixed([0.0, 1.0])})
    model.weigh([Validated(0.0, -1.0)] * 2)
    assert model.votes.tolist() == [0.5, 0.5]


def test_scores_near_zero_do_not_tie() -> None:
    model = FusionModel({"a": nn.Flatten()}).eval()
    images = torch.tensor([[20.0, 0.0], [25.0, 0.0]])
    scores = model(images).pred_score
    np.testing.assert_allclose(scores, np.exp([-20.0, -25.0]), rtol=1e-5)


def test_each_network_of_a_fusion_has_its_best_epoch_and_the_vote_it_earned_there() -> None:
    model, validation = _fusion(), _items(1, 6)
    trainer = _fit(model, _mislabelled(_items(0, 16)), validation, epochs=3)

    images, labels = _images(validation), [int(item.gt_label) for item in validation]
    model.eval()
    with torch.no_grad():
        probabilities = [network(images).softmax(dim=1)[:, 1] for network in model.model.networks.values()]
    aurocs = np.array([roc_auc_score(labels, p) for p in probabilities])
    np.testing.assert_allclose(model.model.votes, aurocs / aurocs.sum(), rtol=1e-6)
    names = {f"train/{quantity}_{network}" for quantity in ("loss", "chosen_epoch") for network in model.model.networks}
    assert names <= set(trainer.callback_metrics)


def test_networks_side_by_side_have_the_gradients_of_each_alone() -> None:
    model, batch = _fusion(), ImageBatch.collate(_items(0, 4))
    alone = copy.deepcopy(model.model.networks)
    losses = model.loss(model.model(batch.image), model.targets(batch))
    losses.sum().backward()

    for loss, (name, network) in zip(losses, alone.items(), strict=True):
        likelihood = network(batch.image).softmax(dim=1)[range(8), batch.gt_label.long()]
        expected = -likelihood.log().mean()
        expected.backward()
        torch.testing.assert_close(loss, expected)
        for own, other in zip(model.model.networks[name].parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-6)


def test_the_optimiser_is_the_papers() -> None:
    optimiser = AutoClassifier("test_resnet", pre_trained=False).configure_optimizers()
    assert isinstance(optimiser, torch.optim.SGD)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.001, 0.9, 0)


def test_a_network_in_evaluation_mode_and_frozen_is_trained_all_the_same() -> None:
    network = timm.create_model("test_resnet").eval().requires_grad_(False)
    before = _copy(network)
    model = AutoClassifier(network, **FAST, **OFF)
    _fit(model, _items(0, 8), _items(1, 4), epochs=1)
    after = network.state_dict()
    for name in ("conv1.0.weight", "layer4.0.conv1.weight", "bn1.running_mean"):
        assert not after[name].equal(before[name])


# The AutoML head

SKLEARN = {
    "linear": LogisticRegression,
    "random_forest": RandomForestClassifier,
    "extra_trees": ExtraTreesClassifier,
    "boosting": HistGradientBoostingClassifier,
    "perceptron": MLPClassifier,
}


def _features(seed: int, count: int, distance: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, 6) of two overlapping classes."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, count)
    return (generator.normal(0, 1, (count, 6)) + distance * targets[:, None]).astype(np.float32), targets


def test_the_automl_model_judges_as_the_found_classifier_trained_apart() -> None:
    model, train = _automl(), _items(0, 12)
    _fit(model, train, _items(1, 6))
    network = model.eval().model.networks["test_resnet"]
    with torch.no_grad():
        known, new = (network.forward_features(_images(items)).mean(dim=(2, 3)) for items in (train, _items(2, 5)))
    settings = dict(model.model.head.settings)
    kind = settings.pop("family")
    classifier = SKLEARN[kind](**settings)
    labels = np.array([int(item.gt_label) for item in train])
    order = _order(model.model.head.features, known)  # the loader shuffles, and trees depend on it
    if kind in ("linear", "perceptron"):
        scaler = StandardScaler().fit(known[order])
        known, new = torch.from_numpy(scaler.transform(known)), torch.from_numpy(scaler.transform(new))
    expected = classifier.fit(known[order], labels[order]).predict_proba(new)

    scores, probabilities = _judge(model, _images(_items(2, 5)))
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    torch.testing.assert_close(scores, probabilities[:, 1])


def _order(shuffled: torch.Tensor, rows: torch.Tensor) -> list[int]:
    """Return where each of some shuffled rows is among `rows`."""
    order = torch.cdist(shuffled, rows).argmin(dim=1).tolist()
    assert sorted(order) == list(range(len(rows)))
    return order


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_and_survives_its_state(family: str) -> None:
    own = {"boosting": {"max_iter": 30, "max_leaf_nodes": 4}}.get(family, {})
    settings = {"family": family, "random_state": 1, **own}
    features, targets = _features(0, 80)
    head = SearchedHead(classes=2)
    assert not head.fitted
    head.fit(features, targets, settings)
    new, truth = _features(1, 40)
    probabilities = head(torch.from_numpy(new))
    assert roc_auc_score(truth, probabilities[:, 1]) > 0.85

    again = SearchedHead(classes=2)
    again.load_state_dict(head.state_dict())
    assert again.fitted
    assert again.settings == settings
    assert again(torch.from_numpy(new)).equal(probabilities)
    head.load_state_dict(again.state_dict())  # into one that is fitted
    assert head(torch.from_numpy(new)).equal(probabilities)


def test_a_class_without_training_images_has_no_probability() -> None:
    features, targets = _features(0, 30)
    head = SearchedHead(classes=3)
    head.fit(features, targets * 2, {"family": "linear", "random_state": 0})
    probabilities = head(torch.from_numpy(features))
    assert probabilities[:, 1].eq(0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(30))


def test_the_search_keeps_the_best_that_it_tried() -> None:
    train, validation = _features(0, 40, 0.4), _features(1, 40, 0.4)

    def result(trials: int) -> Validated:
        settings = search(train, validation, classes=2, trials=trials, seed=0)
        return validated(build(settings).fit(*train).predict_proba(validation[0]), validation[1])

    results = [result(trials) for trials in (1, 2, 5)]
    assert results == sorted(results)
    assert results[0] < results[-1]
    assert search(train, validation, 2, 2, seed=0) == search(train, validation, 2, 2, seed=0)


def test_of_several_networks_the_head_stands_on_the_best() -> None:
    model = AutomlModel(
        {name: timm.create_model(name, num_classes=2) for name in ("test_resnet", "test_efficientnet")}, 2
    )
    model.eval().weigh([Validated(0.9, -1.0), Validated(0.9, -0.5)])
    images = _images(_items(0, 2))
    assert model.votes.tolist() == [0, 1]
    with torch.no_grad():
        expected = model.networks["test_efficientnet"].forward_features(images).mean(dim=(2, 3))
        torch.testing.assert_close(model.features(images), expected)
        alone = model.networks["test_efficientnet"](images).softmax(dim=1)
        torch.testing.assert_close(model(images).class_probabilities, alone)  # until there is a head


# What cannot be


@EVERY
def test_training_images_of_one_class_are_an_error(build_model: Build) -> None:
    with pytest.raises(TrainingError, match=r"All training images are of class good.*protocol=supervised"):
        _fit(build_model(), _items(0, 16, ["good"]), _items(1, 4))


def test_defects_alone_are_an_error_too() -> None:
    with pytest.raises(TrainingError, match="of class hole, stain"):
        _fit(_single(classes=KINDS), _items(0, 8, KINDS[1:]), _items(1, 4))


def test_validation_images_are_needed() -> None:
    with pytest.raises(TrainingError, match="there are none: give a validation loader"):
        _fit(_single(), _items(0, 8), None)


def test_validation_images_of_one_class_are_an_error() -> None:
    with pytest.raises(TrainingError, match="all good or all defective"):
        _fit(_single(), _items(0, 8), _items(1, 4, ["good"]), num_sanity_val_steps=0)


def test_a_training_that_diverges_is_an_error() -> None:
    with pytest.raises(TrainingError, match="the training diverged"):
        _fit(_single(learning_rate=1e30), _items(0, 8), _items(1, 4))


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match="class stain"):
        _fit(_single(classes=("good", "hole", "crack")), _items(0, 8, KINDS), _items(1, 4))


@pytest.mark.parametrize("names", [[], ["resnet18", "resnet18"], ["resnet18.tv_in1k", "resnet18.a1_in1k"]])
def test_backbones_come_each_once(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="one network or more, each once"):
        AutoClassifierFusion(names, pre_trained=False)


def test_a_network_without_a_classifier_is_refused() -> None:
    with pytest.raises(ConfigError, match="Sequential has no classifier to replace"):
        AutoClassifier(nn.Sequential(nn.Conv2d(3, 4, 3)))


def test_names_with_tags_of_weights_name_networks_without_them() -> None:
    model = AutoClassifierFusion({"test_resnet.r160_in1k": timm.create_model("test_resnet")})
    assert list(model.model.networks) == ["test_resnet"]


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_the_papers_families_have_features_and_classes_at_any_size(name: str) -> None:
    with torch.device("meta"):
        model = AutomlModel({name: timm.create_model(name, num_classes=3)}, 3).eval()
        model.head.classes = 3
        images = torch.empty(1, 3, 256, 320)
        assert model.networks[name](images).shape == (1, 3)
        assert model.networks[name].forward_features(images).shape[1:] == (512, 8, 10)


# In plain anomalib


def _engine(root: Path) -> Engine:
    return Engine(max_epochs=2, accelerator="cpu", default_root_dir=root, enable_progress_bar=False, logger=False)


@EVERY
def test_the_engine_fits_tests_predicts_and_exports(build_model: Build, tmp_path: Path) -> None:
    arguments = {"pre_processor": FineTuned.configure_pre_processor(SIZE), "post_processor": True, "evaluator": True}
    model, engine = build_model(**arguments), _engine(tmp_path)
    engine.fit(model, train_dataloaders=_loader(_items(0, 16), shuffle=True), val_dataloaders=_loader(_items(1, 6)))
    (results,) = engine.test(model, dataloaders=_loader(_items(2, 8)))
    assert results["image_AUROC"] > 0.9

    predictions = engine.predict(model, dataloaders=_loader(_items(2, 8)))
    assert sum(len(batch.pred_score) for batch in predictions) == 16
    assert predictions[0].class_probabilities.shape == (8, 2)

    exported = engine.export(model, export_type=ExportType.TORCH, export_root=tmp_path)
    loaded = torch.load(exported, weights_only=False)["model"].eval()
    images = _images(_items(3, 2))
    torch.testing.assert_close(loaded.model(images).pred_score, _judge(model.cpu(), images)[0])


def test_networks_that_are_given_are_not_in_a_checkpoints_settings() -> None:
    networks = {"test_resnet": timm.create_model("test_resnet")}
    assert "backbone" not in AutoClassifier(networks["test_resnet"]).hparams
    assert "backbones" not in AutoClassifierAutoml(networks).hparams
    assert list(AutoClassifierFusion(["test_resnet"], pre_trained=False).hparams["backbones"]) == ["test_resnet"]


@pytest.mark.parametrize("build_model", [_single, _fusion], ids=["single", "fusion"])
def test_a_model_traces_as_the_exporters_need(build_model: Build) -> None:
    model, images = build_model().eval(), _images(_items(0, 2))
    dynamic = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(model.model, (images[:3],), dynamic_shapes=(dynamic,))
    torch.testing.assert_close(program.module()(images).pred_score, model.model(images).pred_score)

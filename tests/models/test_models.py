"""RADL and SimpleNet as networks: training, inference, what is trained and what is not."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.optim import Adam, AdamW

from harness.errors import ConfigError
from harness.models.components import FakeFeatureModule
from harness.models.radl import Radl
from harness.models.radl.loss import HCELoss
from harness.models.simplenet import Simplenet
from harness.models.simplenet.loss import TruncatedL1Loss

MakeImages = Callable[[int, int, bool], torch.Tensor]


def _backbone() -> nn.Module:
    """An untrained resnet18 whose residual branches are open (timm starts them at zero)."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return timm.create_model("resnet18", zero_init_last=False)


def _radl(**settings: object) -> Radl:
    return Radl(_backbone(), hidden=64, **settings)


def _simplenet(**settings: object) -> Simplenet:
    return Simplenet(_backbone(), feature_dim=96, hidden=64, **settings)


def _steps(module: FakeFeatureModule, images: torch.Tensor, count: int, batch: int = 4) -> list[float]:
    optimizer = module.configure_optimizers()
    module.train()
    losses = []
    for _ in range(count):
        loss = module.loss(*module.model(images[torch.randperm(len(images))[:batch]])).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


MODELS = pytest.mark.parametrize(
    "make", [_radl, lambda: _radl(adapter=True), _simplenet], ids=["radl", "radl+adapter", "simplenet"]
)


@MODELS
def test_training_gives_two_logits_a_patch_and_inference_scores_and_maps(
    make: Callable[[], FakeFeatureModule], make_images: MakeImages
) -> None:
    module = make()
    images = make_images(0, 3, False)
    real, fake = module.train().model(images)
    assert real.shape == fake.shape == (3 * 8 * 8, 1)

    result = module.eval().model(images)
    assert result.pred_score.shape == (3,)
    assert result.anomaly_map.shape == (3, 1, 64, 64)


@MODELS
def test_training_changes_adapter_and_discriminator_and_nothing_else(
    make: Callable[[], FakeFeatureModule], make_images: MakeImages
) -> None:
    module = make()
    before = copy.deepcopy(module.model.state_dict())
    _steps(module, make_images(0, 16, False), 3)

    after = module.model.state_dict()
    changed = {name.split(".")[0] for name, value in after.items() if not value.equal(before[name])}
    trained = {"discriminator", "adapter"} if isinstance(module.model.adapter, nn.Linear) else {"discriminator"}
    assert changed == trained
    assert all(parameter.grad is None for parameter in module.model.features.parameters())
    assert all(parameter.grad is not None for parameter in module.trainable_parameters())


@MODELS
def test_inference_draws_no_noise(make: Callable[[], FakeFeatureModule], make_images: MakeImages) -> None:
    module = make().eval()
    images = make_images(0, 2, True)
    torch.manual_seed(5)
    first, state = module.model(images), torch.get_rng_state()
    torch.manual_seed(6)
    second = module.model(images)

    assert first.pred_score.equal(second.pred_score)
    assert first.anomaly_map.equal(second.anomaly_map)
    assert state.equal(torch.manual_seed(5).get_state())  # not a single random number was used


def test_the_score_is_the_highest_patch_score_before_smoothing(make_images: MakeImages) -> None:
    module = _radl().eval()
    images = make_images(0, 2, True)
    logits = module.model.discriminator(module.model.features(images).permute(0, 2, 3, 1).flatten(0, 2))
    torch.testing.assert_close(module.model(images).pred_score, (-logits).reshape(2, -1).max(1).values)


@MODELS
def test_the_same_seed_trains_the_same_model(make: Callable[[], FakeFeatureModule], make_images: MakeImages) -> None:
    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        module = make()
        _steps(module, make_images(0, 16, False), 2)
        return module.eval().model(make_images(1, 4, True)).pred_score

    first = run(0)
    assert first.equal(run(0))
    assert not first.equal(run(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: _radl(fdfa=False, sigma=0.2, learning_rate=2e-3),
        lambda: _radl(sigma_low=0.1, sigma_high=0.3, learning_rate=2e-3),
        lambda: _radl(loss="truncated_l1", fdfa=False, sigma=0.2, learning_rate=2e-3),
        lambda: _simplenet(sigma=0.2, learning_rate=2e-3),
    ],
    ids=["B", "C", "A", "simplenet"],
)
def test_training_learns_real_from_fake_and_finds_defects(
    make: Callable[[], FakeFeatureModule], make_images: MakeImages
) -> None:
    module, unseen = make(), make_images(1, 8, False)

    def tells_fakes() -> float:
        """AUROC of single patches of normal images that were not trained on."""
        model = module.eval().model
        with torch.no_grad():
            patches = model.adapter(model.features(unseen).flatten(2).transpose(1, 2))
            logits = [model.discriminator(x.flatten(0, 1)) for x in (model.noise(patches), patches)]
        return roc_auc_score([0] * len(logits[0]) + [1] * len(logits[1]), torch.cat(logits).numpy())

    assert tells_fakes() < 0.7
    losses = _steps(module, make_images(0, 16, False), 80)
    assert losses[-1] < losses[0]
    assert tells_fakes() > 0.9

    images = torch.cat([unseen, make_images(2, 8, True)])
    with torch.no_grad():
        scores = module.eval().model(images).pred_score
    assert roc_auc_score([0] * 8 + [1] * 8, scores.numpy()) > 0.9


def test_scores_are_full_precision_under_mixed_precision(make_images: MakeImages) -> None:
    module = _radl().eval()
    images = make_images(1, 2, True)
    exact = module.model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module.model(images)
        real, fake = module.train().model(images)

    assert {mixed.pred_score.dtype, mixed.anomaly_map.dtype, real.dtype, fake.dtype} == {torch.float32}
    torch.testing.assert_close(mixed.pred_score, exact.pred_score, rtol=0.1, atol=0.1)


def test_settings_a_b_and_c_differ_in_loss_and_noise_only() -> None:
    def build(**settings: object) -> Radl:
        torch.manual_seed(0)
        return _radl(**settings)

    a, b, c = build(loss="truncated_l1", fdfa=False), build(fdfa=False), build()
    assert [type(module.loss) for module in (a, b, c)] == [TruncatedL1Loss, HCELoss, HCELoss]
    noise = [(module.model.noise.sigma_low, module.model.noise.sigma_high) for module in (a, b, c)]
    assert noise == [(0.015, 0.015), (0.015, 0.015), (0.005, 0.025)]
    for other in (b, c):
        assert all(value.equal(other.model.state_dict()[name]) for name, value in a.model.state_dict().items())
        differing = {key for key in a.hparams if a.hparams[key] != other.hparams[key]}
        assert differing <= {"loss", "fdfa"}


def test_simplenets_one_optimiser_is_its_codes_two(make_images: MakeImages) -> None:
    ours = _simplenet()
    theirs = copy.deepcopy(ours)
    optimizers = [
        AdamW(theirs.model.adapter.parameters(), 1e-4),
        Adam(theirs.model.discriminator.parameters(), lr=2e-4, weight_decay=1e-5),
    ]
    images = make_images(0, 4, False)
    optimizer = ours.configure_optimizers()
    for step in range(4):
        for module, steppers in ((ours, [optimizer]), (theirs, optimizers)):
            torch.manual_seed(step)
            module.train().zero_grad()
            module.loss(*module.model(images)).total.backward()
            for stepper in steppers:
                stepper.step()

    assert all(value.equal(theirs.model.state_dict()[name]) for name, value in ours.model.state_dict().items())


def test_radl_has_the_papers_optimiser() -> None:
    (group,) = _radl(adapter=True).configure_optimizers().param_groups
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (2e-4, 1e-5, 7)


@pytest.mark.parametrize("settings", [{"loss": "l2"}, {"granularity": "pixel"}, {"tau": -1.0}])
def test_an_impossible_setting_is_an_error(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(settings.values())))):
        _radl(**settings)

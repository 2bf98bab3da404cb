"""The training step, the noise beside the features, the blur and the epoch's means against plain references."""

from collections.abc import Callable

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models.components import GaussianBlur2d
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader

from harness.models.components import FakeFeatureModule, FeatureNoise, SeparableBlur
from harness.models.radl import Radl
from harness.models.simplenet import Simplenet

DIM, HIDDEN = 96, 32
Maker = Callable[[], FakeFeatureModule]


class _Given(nn.Module):
    """Stands for extracted features: an image's features are its first pixels, in the memory format that is given."""

    def __init__(self, dim: int, memory_format: torch.memory_format = torch.contiguous_format) -> None:
        super().__init__()
        self.dim, self.memory_format = dim, memory_format

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (
            images.flatten(1)[:, : self.dim * 20]
            .reshape(-1, self.dim, 5, 4)
            .contiguous(memory_format=self.memory_format)
        )


def _module(make: Callable[..., FakeFeatureModule], dim: int = DIM, **settings: object) -> FakeFeatureModule:
    module = make("resnet18", feature_dim=dim, pre_trained=False, hidden=HIDDEN, **settings)
    module.model.features = _Given(dim)
    return module


def _images(count: int, dim: int = DIM) -> torch.Tensor:
    return torch.rand(count, 3, 64, max(64, dim * 20 // 192 + 1))


MODULES = pytest.mark.parametrize(
    "make",
    [
        lambda **s: _module(Radl, **s),
        lambda **s: _module(Radl, granularity="patch", **s),
        lambda **s: _module(Radl, adapter=True, fdfa=False, **s),
        lambda **s: _module(Simplenet, **s),
    ],
    ids=["radl", "radl-patch", "radl-adapter", "simplenet"],
)


def _plain_logits(module: FakeFeatureModule, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 3 and 4 and the discriminator, line by line."""
    first, norm, _, last = module.model.discriminator
    noise = module.model.noise
    patches = features.flatten(2).transpose(1, 2).contiguous()
    if isinstance(adapter := module.model.adapter, nn.Linear):
        patches = F.linear(patches, adapter.weight, adapter.bias)
    drawn = torch.randn(patches.shape)
    sigma: torch.Tensor | float = noise.sigma_low
    if noise.sigma_low != noise.sigma_high:
        each = {"image": (len(patches), 1, 1), "patch": (*patches.shape[:2], 1)}[noise.granularity]
        sigma = noise.sigma_low + (noise.sigma_high - noise.sigma_low) * torch.rand(each)
    both = torch.cat([patches, patches + drawn * sigma]).flatten(0, 1)
    hidden = F.linear(both, first.weight, first.bias)
    hidden = F.batch_norm(hidden, None, None, norm.weight, norm.bias, training=True)
    real, fake = F.linear(F.leaky_relu(hidden, 0.2), last.weight).chunk(2)
    return real, fake


@MODULES
def test_a_training_step_is_bit_by_bit_the_plain_one(make: Maker) -> None:
    module, images = make().train(), _images(3)

    def step(logits: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
        torch.manual_seed(5)
        module.zero_grad()
        real, fake = logits()
        module.loss(real, fake).total.backward()
        gradients = [parameter.grad.clone() for parameter in module.trainable_parameters()]
        return [real, fake, *gradients, torch.get_rng_state()]

    ours = step(lambda: module.model(images))
    theirs = step(lambda: _plain_logits(module, module.model.features(images)))
    assert all(a.equal(b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("model_class", [Radl, Simplenet])
def test_nothing_depends_on_how_features_lie_in_memory(model_class: type[FakeFeatureModule], count: int) -> None:
    dim = 1536  # where PyTorch rounds a transposed product differently
    module, images = _module(model_class, dim), _images(count, dim)

    def run(memory_format: torch.memory_format) -> list[torch.Tensor]:
        module.model.features.memory_format = memory_format
        torch.manual_seed(5)
        module.zero_grad()
        real, fake = module.train().model(images)
        module.loss(real, fake).total.backward()
        result = module.eval().model(images)
        gradients = [parameter.grad.clone() for parameter in module.trainable_parameters()]
        return [real, fake, *gradients, result.pred_score, result.anomaly_map]

    state = {name: value.clone() for name, value in module.state_dict().items()}
    first = run(torch.contiguous_format)
    module.load_state_dict(state)  # the running means moved
    assert all(a.equal(b) for a, b in zip(first, run(torch.channels_last), strict=True))


def test_no_gradient_is_computed_for_features_that_are_given() -> None:
    both = FeatureNoise(0.1, 0.2).beside(torch.rand(2, 5, 8))
    assert not both.requires_grad


@pytest.mark.parametrize("granularity", ["image", "batch", "patch"])
@pytest.mark.parametrize("low", [0.1, 0.2])
def test_beside_is_the_features_and_what_forward_makes_of_them(granularity: str, low: float) -> None:
    noise, features = FeatureNoise(low, 0.2, granularity), torch.rand(3, 8, 5).transpose(1, 2).requires_grad_()
    torch.manual_seed(1)
    real, fake = noise.beside(features)
    torch.manual_seed(1)
    assert real.equal(features)
    assert fake.equal(noise(features))

    weights = torch.rand(2, 3, 5, 8)
    (gradient,) = torch.autograd.grad((torch.stack([real, fake]) * weights).sum(), features)
    assert gradient.equal(weights[0] + weights[1])


@pytest.mark.parametrize(
    "settings",
    [
        {"sigma": 4.0},
        {"sigma": 1.0, "channels": 3},
        {"sigma": (1.0, 3.0), "kernel_size": (7, 13)},
        {"sigma": 2.0, "padding": "valid"},
        {"sigma": 2.0, "border_type": "replicate"},
    ],
)
def test_the_separable_blur_is_anomalibs(settings: dict[str, object]) -> None:
    maps = torch.rand(2, settings.get("channels", 1), 48, 65)
    ours, theirs = SeparableBlur(**settings), GaussianBlur2d(**settings)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert ours.kernel.equal(theirs.kernel)
    torch.testing.assert_close(ours(maps), theirs(maps), rtol=1e-5, atol=1e-5)


def test_a_blurred_map_does_not_depend_on_its_batch() -> None:
    blur, maps = SeparableBlur(4.0), torch.rand(9, 1, 96, 80)
    together = blur(maps)
    assert all(blur(maps[i : i + 1])[0].equal(together[i]) for i in range(9))


class _Epochs(Callback):
    """What a callback sees as an epoch ends."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        self.seen.append(dict(trainer.callback_metrics))


class _LoggedByLightning(Radl):
    """Radl that logs every step with Lightning too."""

    def training_step(self, batch: ImageBatch, *args: object, **kwargs: object) -> torch.Tensor:
        self.loss.register_forward_hook(lambda _, __, parts: self._log(parts, len(batch.image)))
        loss = super().training_step(batch, *args, **kwargs)
        self.loss._forward_hooks.clear()
        return loss

    def _log(self, parts: tuple[torch.Tensor, torch.Tensor], images: int) -> None:
        named = {"expected/loss_real": parts[0], "expected/loss_fake": parts[1], "expected/loss": sum(parts)}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=images)


def _fit(module: LightningModule, **arguments: object) -> tuple[Trainer, list[dict[str, torch.Tensor]]]:
    images, epochs = _images(7), _Epochs()
    batches = DataLoader([ImageBatch(image=images[i : i + 3]) for i in (0, 3, 6)], batch_size=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[epochs], **quiet, **arguments)
    trainer.fit(module, batches)
    return trainer, epochs.seen


def test_an_epochs_means_are_lightnings_own() -> None:
    module = _module(_LoggedByLightning, pre_processor=False)
    _, epochs = _fit(module, max_epochs=2)
    assert len(epochs) == 2
    for metrics in epochs:
        for name in ("loss", "loss_real", "loss_fake"):
            assert metrics[f"train/{name}"].equal(metrics[f"expected/{name}"])
        assert 0 <= metrics["train/p_real"] <= 1
    assert not epochs[0]["train/loss"].equal(epochs[1]["train/loss"])


def test_an_epoch_cut_short_is_logged_too() -> None:
    module = _module(_LoggedByLightning, pre_processor=False)
    trainer, _ = _fit(module, max_steps=2)
    metrics = trainer.callback_metrics
    assert metrics["train/loss"].equal(metrics["expected/loss"])

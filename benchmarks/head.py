"""The trained part of RADL and SimpleNet, on patch features that are given: a training step and an evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import GaussianBlur2d
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.comparison import Comparison, timed
from harness.models.components import FakeFeatureModel, FakeFeatureModule
from harness.models.radl import Radl
from harness.models.simplenet import Simplenet

T = TypeVar("T")
GRID, SIZE, BATCH = 32, 256, 8


class GivenFeatures(nn.Module):
    """Patch features that were extracted before."""

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return as many features (B, dim, h, w) as there are images."""
        return self.features[: len(images)]


class PlainModel(FakeFeatureModel):
    """The network as it was written first: a concatenation, noise like the features, a two-dimensional blur."""

    def __init__(self, model: FakeFeatureModel) -> None:
        nn.Module.__init__(self)
        self.features, self.noise, self.adapter = model.features, model.noise, model.adapter
        self.discriminator, self.map_head = model.discriminator, model.map_head
        self.discriminator[2] = nn.LeakyReLU(0.2)
        self.map_head.blur = GaussianBlur2d(sigma=4.0, channels=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | InferenceBatch:
        """Return the real and fake patches' logits in training, else scores (B,) and maps (B, 1, H, W)."""
        features = self.features(images).float()
        patches = self.adapter(features.flatten(2).transpose(1, 2))
        if self.training:
            fakes = patches + torch.randn_like(patches) * self.noise._sigma(patches)
            return self.discriminator(torch.cat([patches, fakes]).flatten(0, 1)).chunk(2)
        scores = -self.discriminator(patches.flatten(0, 1)).reshape(-1, 1, *features.shape[-2:])
        enlarged = F.interpolate(scores, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return InferenceBatch(pred_score=scores.amax(dim=(1, 2, 3)), anomaly_map=self.map_head.blur(enlarged))


def measure(quick: bool) -> Iterator[Comparison]:
    """Compare training steps and evaluations, features of 1536 and 384 values a patch, as the store gives them."""
    grid, batch, hidden = (4, 2, 16) if quick else (GRID, BATCH, 1024)
    for dim in (1536, 384):
        for make in (_radl, _simplenet):
            features = torch.rand(batch, dim, grid, grid)
            yield _training(make(dim, hidden), features, repeats=1 if quick else 4)
        yield _evaluation(_radl(dim, hidden), torch.rand(batch, dim, grid, grid), repeats=1 if quick else 4)


def _radl(dim: int, hidden: int) -> FakeFeatureModule:
    return _given(Radl("resnet18", pre_trained=False, hidden=hidden, feature_dim=dim))


def _simplenet(dim: int, hidden: int) -> FakeFeatureModule:
    return _given(Simplenet("resnet18", pre_trained=False, hidden=hidden, feature_dim=dim))


def _given(module: FakeFeatureModule) -> FakeFeatureModule:
    module.model.features = GivenFeatures(torch.empty(0))
    return module


def _training(module: FakeFeatureModule, features: torch.Tensor, repeats: int) -> Comparison:
    images = torch.empty(len(features), 3, SIZE, SIZE)
    plain = copy.deepcopy(module)
    plain.model = PlainModel(plain.model)
    module.model.features.features = features.to(memory_format=torch.channels_last)
    plain.model.features.features = features
    drawn_alike = isinstance(module.model.adapter, nn.Linear)  # its result lies in memory as our noise does
    ours, theirs = _stepper(module, images), _stepper(plain, images)
    ours_seconds, theirs_seconds, losses = alternated(ours, theirs, repeats)
    return Comparison(
        f"{type(module).__name__} training step, {_described(features)}",
        "the same step, written plainly",
        ours_seconds,
        theirs_seconds,
        f"loss {losses[0]:.6f} against {losses[1]:.6f}{'' if drawn_alike else ', noise in another order'}",
        note=_floor(module, features),
    )


def _stepper(module: FakeFeatureModule, images: torch.Tensor) -> Callable[[], float]:
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    module.train()

    def step() -> float:
        torch.manual_seed(0)
        loss = module.loss(*module.model(images)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _floor(module: FakeFeatureModule, features: torch.Tensor) -> str:
    """Say how long the step's matrix products alone take: nothing can be faster."""
    rows = 2 * len(features) * features.shape[2] * features.shape[3]
    shapes = [(rows, *module.model.discriminator[0].weight.shape)]
    if isinstance(module.model.adapter, nn.Linear):
        shapes.append((rows // 2, *module.model.adapter.weight.shape))
    seconds = 0.0
    for layer, (count, out, into) in enumerate(shapes):
        x, w, g = torch.rand(count, into), torch.rand(out, into), torch.rand(count, out)
        products = [lambda x=x, w=w: x @ w.T, lambda g=g, x=x: g.T @ x]
        if len(shapes) > 1 and layer == 0:
            products.append(lambda g=g, w=w: g @ w)
        seconds += sum(timed(product, 3)[0] for product in products)
    return f"its matrix products alone: {seconds:.3f} s"


def _evaluation(module: FakeFeatureModule, features: torch.Tensor, repeats: int) -> Comparison:
    images = torch.empty(len(features), 3, SIZE, SIZE)
    module.eval()
    plain = PlainModel(copy.deepcopy(module.model)).eval()
    module.model.features.features = features.to(memory_format=torch.channels_last)
    plain.features.features = features
    with torch.inference_mode():
        ours, theirs, results = alternated(lambda: module.model(images), lambda: plain(images), repeats)
    scores = (results[0].pred_score - results[1].pred_score).abs().max()
    maps = (results[0].anomaly_map - results[1].anomaly_map).abs().max()
    return Comparison(
        f"evaluation of RADL's head, {_described(features)}",
        "the same, written plainly",
        ours,
        theirs,
        f"scores within {scores:.0e}, maps within {maps:.0e}",
    )


def alternated(ours: Callable[[], T], theirs: Callable[[], T], repeats: int) -> tuple[float, float, tuple[T, T]]:
    """Return the least seconds of both after a warm-up, in turns, and their last results."""
    best = [float("inf"), float("inf")]
    results: list[T] = [ours(), theirs()]
    for _ in range(repeats):
        for index, work in enumerate((ours, theirs)):
            seconds, results[index] = timed(work)
            best[index] = min(best[index], seconds)
    return best[0], best[1], (results[0], results[1])


def _described(features: torch.Tensor) -> str:
    images, dim, height, width = features.shape
    return f"{images} images of {height}×{width} patches of {dim} values"

"""Augmentation: what the paper asks for, and the same whatever the order and the workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.augment import Augmentation, Augmented, build_augmentation
from harness.data.geometry import build_geometry
from harness.data.readers import read_category
from harness.data.torch_dataset import SampleDataset
from harness.errors import ConfigError
from harness.identity import identify
from harness.runs.loaders import train_loader
from harness.schema import compose, validate


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_has_the_variance_that_was_asked_for() -> None:
    image = torch.full((3, 200, 200), 0.5)
    fixed = Augmentation(0, 0.0, (100.0, 100.0), 1.0)
    noisy, _ = fixed(image, None, generator())
    assert float((noisy - image).std() * 255) == pytest.approx(10, rel=0.01)
    ranged = Augmentation(0, 0.0, (10.0, 120.0), 1.0)
    variances = [float(((ranged(image, None, generator(s))[0] - image) * 255).var()) for s in range(300)]
    assert min(variances) > 9.5 and max(variances) < 122
    assert np.mean(variances) == pytest.approx(65, abs=5)  # uniform on [10, 120]


def test_each_happens_with_its_probability() -> None:
    image, augmentation = torch.rand(3, 24, 24), Augmentation(15, 0.5, (10.0, 120.0), 0.5)
    turned = noisy = both = 0
    for seed in range(400):
        found, _ = augmentation(image, None, generator(seed))
        draws = torch.rand(4, generator=generator(seed))
        turned += bool(draws[0] < 0.5)
        noisy += bool(draws[2] < 0.5)
        both += not torch.equal(found, image)
    assert turned == pytest.approx(200, abs=40) and noisy == pytest.approx(200, abs=40)
    assert both == pytest.approx(300, abs=40)  # one or the other: independent


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_a_mask_turns_with_its_image(seed: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    mask = (rows - 20) ** 2 + (columns - 40) ** 2 < 100
    image = mask.float().expand(3, -1, -1)
    found, turned = Augmentation(45, 1.0, (0.0, 0.0), 0.0)(image, mask, generator(seed))
    assert turned is not None and turned.dtype == torch.bool
    assert float(((found[0] > 0.5) ^ turned).float().mean()) < 0.01
    assert turned.sum() == pytest.approx(int(mask.sum()), rel=0.1)


def test_nothing_is_asked_for_by_default() -> None:
    assert build_augmentation(compose().augment) is None
    assert identify(compose(["augment=none"])).key == identify(compose()).key
    assert identify(compose(["augment=autovi"])).key != identify(compose()).key
    assert build_augmentation(compose(["augment=autovi"]).augment) == Augmentation(15.0, 0.5, (10.0, 120.0), 0.5)


@pytest.mark.parametrize(
    "override",
    ["augment.rotation=50", "augment.rotation_p=1.5", "augment.noise_variance=[5,1]", "augment.noise_variance=[3]"],
)
def test_impossible_settings_are_named(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].replace(".", r"\.")):
        validate(compose([override]))


def test_every_visit_differs_and_workers_change_nothing(toy_root: Path) -> None:
    config = compose(["augment=autovi", f"dataset.root={toy_root}", "preprocess.size=32"])
    category = read_category(config.dataset, config.category)
    images = SampleDataset(category, category.train[:6], build_geometry(config.preprocess))
    augmentation = build_augmentation(config.augment)
    assert augmentation is not None

    def visits(workers: int, seed: int = 0) -> list[torch.Tensor]:
        loader = train_loader(Augmented(images, augmentation, seed), batch_size=4, passes=2, seed=1, workers=workers)
        epochs = [list(loader) for _ in range(2)]
        return [batch.image.as_subclass(torch.Tensor) for epoch in epochs for batch in epoch]

    alone = visits(workers=0)
    assert all(torch.equal(a, b) for a, b in zip(alone, visits(workers=2), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(alone, visits(workers=0, seed=1), strict=True))
    data = Augmented(images, augmentation, 0)
    seen = [torch.as_tensor(data[visit * 6].image) for visit in range(8)]
    assert len({tuple(view.flatten().tolist()) for view in seen}) > 4

"""The images of a run as batches: what its model trains on, what it validates on, what the harness scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from omegaconf import DictConfig, OmegaConf

from harness.data.augment import Augmented, build_augmentation
from harness.data.fingerprint import image_hash
from harness.data.geometry import Geometry
from harness.data.protocol_rules import drawn_as
from harness.data.protocols import Split, for_method, split
from harness.data.records import Sample
from harness.data.synthetic import SYNTHETIC_VERSION, damage
from harness.data.torch_dataset import Cache, SampleDataset
from harness.identity import Identity, derive_seed, digest, split_seed
from harness.runs.loaders import Passes, Placeholders, eval_loader, in_order, train_loader


class RunData(LightningDataModule):
    """The batches of a run, in the shape in which anomalib's models ask their trainer for them.

    Whoever asks gets batches of their own: a model that looks through them as the training starts (EfficientAD) neither
    uses up those that Lightning has begun, nor changes their order.

    Args:
        train: makes the training batches.
        held: makes what the model itself validates on while it trains, or None.
        test: what the result is measured on.
        validation: what epochs are chosen on, or None.
        train_batch_size: images of a training batch.
    """

    def __init__(
        self,
        train: Callable[[], Any],
        held: Callable[[], Any] | None,
        test: Any,
        validation: Any,
        train_batch_size: int,
    ) -> None:
        super().__init__()
        self._train, self._held = train, held
        self.test, self.validation = test, validation
        self.train_batch_size = train_batch_size

    def train_dataloader(self) -> Any:
        """Return the training batches, shuffled."""
        return self._train()

    def val_dataloader(self) -> Any:
        """Return what the model validates on: nothing for most methods."""
        return [] if self._held is None else self._held()

    @property
    def validates(self) -> bool:
        """Whether the model has something to validate on."""
        return self._held is not None


def draw(config: DictConfig, identity: Identity) -> Split:
    """Return the split of a run: the protocol's draw, the same for all methods, as this method may see it.

    Raises:
        DataError: when the protocol cannot be had of these images.
    """
    parts = (config.seed, identity.fingerprint, config.category, drawn_as(config.protocol.name))
    drawn = split(identity.category, config.protocol, split_seed(config, identity.fingerprint))
    if config.protocol.synthetic:
        drawn = replace(drawn, validation=(*drawn.validation, *_synthetic(config, drawn, parts)))
    method = config.method
    seed = derive_seed("holdout", *parts)
    return for_method(drawn, bool(method.get("supervised")), method.get("holdout"), seed)


def _synthetic(config: DictConfig, drawn: Split, parts: Sequence[str | int]) -> tuple[Sample, ...]:
    """Return damaged copies of the normal validation images, kept beside the store for the next method and run."""
    seed = derive_seed("synthetic", *parts)
    what = digest([SYNTHETIC_VERSION, seed, [image_hash(sample) for sample in drawn.validation]])
    return damage(drawn.validation, seed, Path(config.tracking.directory) / "synthetic" / what[:20])


def images_of(drawn: Split) -> list[Sample]:
    """Return every image of a run; an image's place is the row of its stored features."""
    return [*drawn.train, *drawn.held, *drawn.validation, *drawn.test]


def placeholder_data(config: DictConfig, identity: Identity, drawn: Split, device: torch.device) -> RunData:
    """Return batches that stand for images whose features are stored."""
    method, size, seed = config.method, config.preprocess.size, _order_seed(config, identity)

    def train() -> Placeholders:
        order = Passes(len(drawn.train), method.batch_size, method.passes, seed)
        return Placeholders(drawn.train, 0, size, device, order)

    first = len(drawn.train)
    others: list[Placeholders | None] = []
    for samples in (drawn.held, drawn.validation, drawn.test):
        batches = in_order(len(samples), config.trainer.eval_batch_size)
        others.append(Placeholders(samples, first, size, device, batches) if samples else None)
        first += len(samples)
    held, validation, test = others
    return RunData(train, (lambda: held) if held else None, test, validation, method.batch_size)


def image_data(config: DictConfig, identity: Identity, drawn: Split, geometry: Geometry) -> RunData:
    """Return batches of images."""
    method, workers = config.method, config.trainer.workers
    cache = _cache(config, identity)

    def dataset(samples: Sequence[Sample]) -> SampleDataset:
        return SampleDataset(identity.category, samples, geometry, cache)

    def unchanged(samples: Sequence[Sample]) -> Any:
        return eval_loader(dataset(samples), config.trainer.eval_batch_size, workers) if samples else None

    images = dataset(drawn.train)
    if cache is not None:  # now, and not in the training time of the first method of a grid
        images.load()
    augmentation = build_augmentation(config.augment)
    shown = Augmented(images, augmentation, config.seed) if augmentation else images
    seed = _order_seed(config, identity)
    return RunData(
        lambda: train_loader(shown, method.batch_size, method.passes, seed, workers),
        (lambda: unchanged(drawn.held)) if drawn.held else None,
        unchanged(drawn.test),
        unchanged(drawn.validation),
        method.batch_size,
    )


def _order_seed(config: DictConfig, identity: Identity) -> int:
    return derive_seed("order", config.seed, identity.fingerprint, config.category, config.protocol.name)


_kept: dict[tuple[str, str], Cache] = {}  # preprocessed images, while data and preprocessing stay the same


def _cache(config: DictConfig, identity: Identity) -> Cache | None:
    if not config.trainer.cache_images:
        return None
    key = (identity.fingerprint, OmegaConf.to_yaml(config.preprocess, resolve=True))
    if key not in _kept:
        _kept.clear()
        _kept[key] = {}
    return _kept[key]

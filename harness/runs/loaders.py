"""Batches in an order that a seed decides, in as many passes an epoch as the method wants."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Sampler

from harness.data.torch_dataset import SampleDataset, collate


class Passes(Sampler[list[int]]):
    """Batches of an epoch: `passes` times all images, each time in a new order (SimpleNet's meta-epoch has four).

    The order comes from a generator of its own, so a method that draws random numbers in between does not change it.
    """

    def __init__(self, images: int, batch_size: int, passes: int, seed: int) -> None:
        self._images, self._batch_size, self._passes = images, batch_size, passes
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._passes * -(-self._images // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self._passes):
            order = torch.randperm(self._images, generator=self._generator).tolist()
            yield from (order[i : i + self._batch_size] for i in range(0, self._images, self._batch_size))


def train_loader(dataset: SampleDataset, batch_size: int, passes: int, seed: int, workers: int) -> DataLoader:
    """Return shuffled batches; the last batch of a pass may be smaller, as in the released codes."""
    return DataLoader(
        dataset,
        batch_sampler=Passes(len(dataset), batch_size, passes, seed),
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
        persistent_workers=workers > 0,
    )


def test_loader(dataset: SampleDataset, batch_size: int, workers: int) -> DataLoader:
    """Return the images in order."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
        persistent_workers=workers > 0,
    )

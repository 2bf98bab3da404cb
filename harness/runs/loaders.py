"""Batches of images or of their placeholders, in an order that a seed decides, in as many passes as a method wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from anomalib.data.dataclasses.torch import ImageBatch
from torch.utils.data import DataLoader, Sampler

from harness.data.augment import Augmented
from harness.data.records import Sample
from harness.data.torch_dataset import SampleDataset, collate
from harness.features.placeholder import placeholders


class Passes(Sampler[list[int]]):
    """Batches of an epoch: `passes` times all images, each time in a new order (SimpleNet's meta-epoch has four).

    The order comes from a generator of its own, so a method that draws random numbers in between does not change it.
    With `numbered`, the positions of an image at its visits 0, 1, … are index, N + index, 2·N + index, …
    """

    def __init__(self, images: int, batch_size: int, passes: int, seed: int, numbered: bool = False) -> None:
        self._images, self._batch_size, self._passes, self._numbered = images, batch_size, passes, numbered
        self._visits = 0
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._passes * -(-self._images // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self._passes):
            first = self._visits * self._images if self._numbered else 0
            self._visits += 1
            order = (first + torch.randperm(self._images, generator=self._generator)).tolist()
            yield from (order[i : i + self._batch_size] for i in range(0, self._images, self._batch_size))


class Placeholders:
    """Batches of images whose features are stored: labels and paths, but no pixels and no masks.

    Args:
        samples: the images.
        first: the row of the first of them; the others follow.
        size: of a model input.
        device: where the model is.
        batches: of positions among the samples; a sampler, or a list.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        first: int,
        size: int,
        device: torch.device,
        batches: Passes | Sequence[Sequence[int]],
    ) -> None:
        self._size, self._batches = size, batches
        self._rows = torch.arange(first, first + len(samples), device=device)
        self._labels = torch.tensor([sample.label for sample in samples], device=device)
        self._paths = [str(sample.path) for sample in samples]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[ImageBatch]:
        batches: Iterable[Sequence[int]] = self._batches
        for positions in batches:
            chosen = torch.tensor(positions, device=self._rows.device)
            yield ImageBatch(
                image=placeholders(self._rows[chosen], self._size),
                gt_label=self._labels[chosen],
                image_path=[self._paths[position] for position in positions],
            )


def in_order(images: int, batch_size: int) -> list[range]:
    """Return the batches of all images in their order."""
    return [range(start, min(start + batch_size, images)) for start in range(0, images, batch_size)]


def train_loader(
    dataset: SampleDataset | Augmented, batch_size: int, passes: int, seed: int, workers: int
) -> DataLoader:
    """Return shuffled batches; the last batch of a pass may be smaller, as in the released codes."""
    return DataLoader(
        dataset,
        batch_sampler=Passes(len(dataset), batch_size, passes, seed, numbered=isinstance(dataset, Augmented)),
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
        persistent_workers=workers > 0,
    )


def eval_loader(dataset: SampleDataset, batch_size: int, workers: int) -> DataLoader:
    """Return the images in order."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
        persistent_workers=workers > 0,
    )

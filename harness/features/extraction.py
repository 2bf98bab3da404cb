"""What a frozen backbone makes of a run's images, computed as it will be stored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.data.geometry import Geometry
from harness.data.masks import load_sample
from harness.data.records import Sample
from harness.features.modules import split
from harness.features.store import Maps

_GPU_BATCH = 32


@dataclass(frozen=True)
class Extraction:
    """Computes feature maps of samples.

    Args:
        extractor: the backbone; on a CPU it sees one image at a time.
        normalise: what becomes of an image before it.
        samples: every image of the run.
        geometry: how an image becomes a model input.
        device: where the extractor computes.
        dtype: in which the maps are stored.
    """

    extractor: nn.Module
    normalise: nn.Module
    samples: Sequence[Sample]
    geometry: Geometry
    device: torch.device
    dtype: str

    def of(self, rows: Sequence[int]) -> Iterator[tuple[int, Maps, float]]:
        """Yield row, maps and the seconds that they took; decoding and a warm-up are not in them."""
        size = 1 if self.device.type == "cpu" else _GPU_BATCH
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            images = self._images(batch)
            if start == 0:
                self._extract(images)  # warm-up
            seconds, features = timed(self._extract, images, self.device)
            for row, maps in zip(batch, split(features, self.dtype), strict=True):
                yield row, maps, seconds / len(batch)

    def again(self, row: int) -> Maps:
        """Return the maps of one image in the middle of training, which nothing of it must notice."""
        with torch.random.fork_rng(), torch.no_grad():
            return split(self._extract(self._images([row])), self.dtype)[0]

    def seconds(self, rows: Sequence[int]) -> float:
        """Return what an image costs."""
        return sum(seconds for _, _, seconds in self.of(rows)) / len(rows)

    def _images(self, rows: Sequence[int]) -> torch.Tensor:
        images = [self.geometry.image(load_sample(self.samples[row])) for row in rows]
        return torch.stack(images).to(self.device)

    def _extract(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.extractor.to(self.device)(self.normalise.to(self.device)(images))


def timed(module: Any, images: torch.Tensor, device: torch.device) -> tuple[float, Any]:
    """Return the seconds that a module takes for images, and what it makes of them."""
    started = time.perf_counter()
    result = module(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result

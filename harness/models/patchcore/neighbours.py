"""Exact nearest neighbours in a memory bank: no matrix of all distances, and most of them never computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .distances import TILE, UNIT, Floats, Indices, Nearest, Points, approximate, exact, take

CHUNK = 1 << 13  # queries at a time
BALL = 128  # rows of the bank in a ball, on average
FEWEST_BALLS = 32  # with fewer, comparing with all rows is as fast
FEW = 1 << 8  # queries at a time that ask for more than one neighbour
SPARE = 8  # neighbours ranked by approximate distance beyond those asked for


class BankSearch:
    """Nearest rows of a bank.

    Its rows are sorted into balls: each belongs to its nearest pivot, and a radius encloses all of a pivot's. A query
    is compared with the ball of its own nearest pivot, then only with balls that come nearer to it than what it
    found. The pivots are the first rows: a coreset begins with those that are farthest from each other.

    Args:
        bank: n×d, `measurable`.
    """

    def __init__(self, bank: Tensor) -> None:
        self.origin = bank.mean(dim=0)
        centred = bank - self.origin
        balls = len(bank) // BALL
        pivots = Points.of(centred[: balls if balls >= FEWEST_BALLS else 1])
        home = np.concatenate([approximate(rows, pivots).argmin(axis=1) for rows in centred.split(CHUNK)])
        self.order = np.argsort(home, kind="stable")
        used, self.starts, sizes = np.unique(home[self.order], return_index=True, return_counts=True)
        self.ends = self.starts + sizes
        self.points = Points.of(take(centred, self.order))
        self.pivots = Points.of(take(pivots.rows, used))
        offset = exact(self.points.rows, take(pivots.rows, home[self.order]))
        self.radii = np.maximum.reduceat(offset, self.starts) * np.float32(1 + 2 * bank.shape[1] * UNIT)

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distances (n,) of n×d queries to their nearest rows, and the rows' indices (n,)."""
        return self._search(queries, CHUNK, self._nearest)

    def several(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the distances (n, count) to the nearest rows, ascending, and the rows' indices (n, count)."""
        return self._search(queries, FEW, lambda chunk: self._several(chunk, count))

    def _search(
        self, queries: Tensor, size: int, search: Callable[[Tensor], tuple[Floats, Indices]]
    ) -> tuple[Tensor, Tensor]:
        found = [search(chunk - self.origin) for chunk in queries.split(size)]
        distance, place = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return torch.from_numpy(distance), torch.from_numpy(self.order[place])

    def _nearest(self, queries: Tensor) -> tuple[Floats, Indices]:
        """Return distances and places in `points` of the nearest rows, for queries less `origin`."""
        nearest = Nearest(Points.of(queries))
        home, gap = self._gaps(nearest.points)
        for ball, (first, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            nearest.offer(np.flatnonzero(home == ball), self.points, first, end)
        for ball, (first, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            within = np.flatnonzero((gap[ball] <= nearest.distance) & (home != ball))
            nearest.offer(within, self.points, first, end)
        return nearest.distance, nearest.index

    def _gaps(self, queries: Points) -> tuple[Indices, Floats]:
        """Return each query's nearest pivot (n,), and a lower bound of its distance to any row of a ball (balls, n)."""
        squared = approximate(queries.centred, self.pivots)
        floor = squared.T + (np.square(queries.norms) - queries.slack(self.points))
        return squared.argmin(axis=1), np.sqrt(np.maximum(floor, 0, order="C")) - self.radii[:, None]

    def _several(self, queries: Tensor, count: int) -> tuple[Floats, Indices]:
        """Return distances and places in `points` of the `count` nearest rows, for queries less `origin`."""
        squared, place = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        width = max(1, TILE // len(queries))
        for first in range(0, len(self.points), width):
            block = torch.from_numpy(approximate(queries, self.points, first, first + width))
            squared = torch.cat([squared, block], dim=1)
            place = torch.cat([place, torch.arange(first, first + block.shape[1]).expand_as(block)], dim=1)
            squared, kept = squared.topk(min(count + SPARE, squared.shape[1]), largest=False)
            place = place.gather(1, kept)
        pairs = exact(queries.repeat_interleave(place.shape[1], dim=0), take(self.points.rows, place.flatten().numpy()))
        distance = pairs.reshape(place.shape)
        rank = np.argsort(distance, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(distance, rank, 1), np.take_along_axis(place.numpy(), rank, 1)

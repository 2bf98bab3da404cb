"""Nearest rows, exact to the bit, with few exact distances: cheap approximate ones exclude nearly all pairs.

Exact is what anomalib's k-centre selection computes: `torch.linalg.norm` of the difference of two rows. It reads
memory and nothing else, so it is slow; |y|² − 2 x·y by one matrix product for all pairs is fast, but rounds. A pair
that the product puts beyond what its rounding can be (`Points.slack`) needs no exact distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

LARGEST = 1e12  # of an entry: sums of squares stay far from overflow
TILE = 1 << 19  # pairs of one matrix product: its result stays in the cache
PAIRS = 1 << 12  # exact distances at a time
UNIT = 2.0**-24  # float32's rounding of one operation


def measurable(rows: Tensor) -> bool:
    """Whether what is here holds for an n×d matrix: finite float32 on a CPU, no autocast's rounding, no gradient."""
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or rows.requires_grad or rows.numel() == 0:
        return False
    low, high = torch.aminmax(rows)
    return not torch.is_autocast_enabled("cpu") and bool(low > -LARGEST) and bool(high < LARGEST)


class Points:
    """Rows of a matrix, and what their approximate distances need.

    Args:
        rows: n×d, between which exact distances are measured.
        centred: n×d, the rows less one vector that all points share: the smaller they are, the better the bounds.
    """

    def __init__(self, rows: Tensor, centred: Tensor) -> None:
        self.rows = rows
        self.centred = centred
        self.norms = torch.linalg.vector_norm(centred, dim=1).numpy()
        self.squares = torch.from_numpy(np.square(self.norms))

    @classmethod
    def of(cls, centred: Tensor) -> Points:
        """Take centred rows for the rows themselves: distances between them then carry the rounding of centring."""
        return cls(centred, centred)

    def __len__(self) -> int:
        return len(self.rows)

    def put(self, place: int, row: Tensor, centred: Tensor) -> None:
        """Replace one point by a vector of length d and the same centred."""
        self.rows[place] = row
        self.centred[place] = centred
        self.norms[place] = torch.linalg.vector_norm(centred)
        self.squares[place] = float(np.square(self.norms[place]))

    def slack(self, others: Points) -> Floats:
        """Return, for each point, how far approximate and exact squared distances to any of `others` can be apart.

        With u = 2⁻²⁴, a sum of d products of x and y in any order is within d·u·|x||y| of the true one; centring
        moves a point by u·|x|; the exact norm, itself a float32 result, is within (d/2 + 2)·u of the true one.
        All in all less than (2d + 16)·u·(|x| + |y|)²; as much again is to spare, and 10⁻³⁰ is for underflow.
        """
        error = 2 * (2 * self.rows.shape[1] + 16) * UNIT
        return (error * np.square(self.norms + others.norms.max()) + 1e-30).astype(np.float32)


class Nearest:
    """The nearest of all rows that were offered so far, for each of some points.

    Attributes:
        distance: float32, one a point; at first infinite, or what is given.
        index: int64, one a point: the place of its nearest row in `others`; −1 before one was nearer than at first.
    """

    def __init__(self, points: Points, distance: Floats | None = None) -> None:
        self.points = points
        self.distance = np.full(len(points), np.inf, np.float32) if distance is None else distance
        self.index = np.full(len(points), -1, np.int64)

    def offer(self, which: Indices, others: Points, first: int, last: int) -> None:
        """Compare the points with indices `which`, ascending, with `others[first:last]`, centred as they are."""
        slack = self.points.slack(others)
        height = max(1, TILE // (last - first))
        for start in range(0, len(which), height):
            tile = which[start : start + height]
            row, column = self._candidates(tile, others, first, last, slack[tile])
            if len(row):
                self._settle(tile[row], first + column, others)

    def _candidates(
        self, which: Indices, others: Points, first: int, last: int, slack: Floats
    ) -> tuple[Indices, Indices]:
        """Return the pairs, as places in the tile, that may be nearer than what was found and than each other."""
        points = self.points
        centred = points.centred if len(which) == len(points) else take(points.centred, which)
        squared = approximate(centred, others, first, last)
        known = np.square(self.distance[which]) - np.square(points.norms[which])
        limit = np.minimum(known, squared.min(axis=1) + slack) + slack
        row, column = np.divmod(np.flatnonzero(squared <= limit[:, None]), last - first)
        return row, column

    def _settle(self, point: Indices, other: Indices, others: Points) -> None:
        """Measure pairs and keep what is nearer; `point` ascends."""
        parts = [slice(start, start + PAIRS) for start in range(0, len(point), PAIRS)]
        distance = np.concatenate(
            [exact(take(self.points.rows, point[part]), take(others.rows, other[part])) for part in parts]
        )
        least = np.lexsort((distance, point))[np.flatnonzero(np.diff(point, prepend=-1))]
        nearer = least[distance[least] < self.distance[point[least]]]
        self.distance[point[nearer]] = distance[nearer]
        self.index[point[nearer]] = other[nearer]


def approximate(centred: Tensor, others: Points, first: int = 0, last: int | None = None) -> Floats:
    """Return |y|² − 2 x·y, which is |x − y|² − |x|², for centred points x (n×d) and `others[first:last]`, n×m."""
    with _full_precision():
        return torch.addmm(others.squares[first:last], centred, others.centred[first:last].T, alpha=-2).numpy()


@contextmanager
def _full_precision() -> Iterator[None]:
    """Do without oneDNN: after `torch.set_float32_matmul_precision("medium")` it multiplies in bfloat16."""
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = enabled


def exact(rows: Tensor, others: Tensor) -> Floats:
    """Return the distances between the rows of two n×d matrices, or of one and a vector: anomalib's, bit for bit."""
    return torch.linalg.norm(rows - others, ord=2, dim=1).numpy()


def take(rows: Tensor, indices: Indices) -> Tensor:
    """Return the rows with these indices."""
    return rows.index_select(0, torch.from_numpy(indices))  # several times faster than rows[indices]

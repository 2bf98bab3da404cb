"""Greedy k-centre selection: anomalib's picks, most of its distances never computed."""

from __future__ import annotations

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy as AnomalibKCenterGreedy
from torch import Tensor

from harness.errors import ConfigError

from .distances import Floats, Indices, Nearest, Points, exact, measurable, take

SMALLEST_POOL, FIRST_POOL, LARGEST_POOL = 1 << 8, 1 << 10, 1 << 13  # points
FEW, MANY = 4, 32  # picks of a pool that was too small, and of one that was larger than it need be
CHUNK = 1 << 12  # points compared with the first centre at a time
BATCH = 512  # points brought up to date at a time
BLOCK = 1024  # centres that they are compared with at a time


class KCenterGreedy(AnomalibKCenterGreedy):
    """anomalib's `KCenterGreedy`: the same indices for the same embedding and seed, faster on a CPU.

    On other devices, in other precisions than float32 and for values that are not finite it is anomalib's own.

    Args:
        embedding: n×d.
        sampling_ratio: size of the coreset as a share of n.

    Raises:
        ConfigError: when the coreset would be empty.
    """

    def __init__(self, embedding: Tensor, sampling_ratio: float) -> None:
        if int(len(embedding) * sampling_ratio) <= 0:
            raise ConfigError(
                f"method.coreset_sampling_ratio={sampling_ratio} of {len(embedding)} training patches is an empty "
                f"coreset; give more, such as {min(1, 2 / max(len(embedding), 1)):.1g}."
            )
        super().__init__(embedding, sampling_ratio)

    def select_coreset_idxs(self) -> list[int]:
        """Return the picks: n·`sampling_ratio` row numbers, in the order of picking.

        Random numbers are drawn as anomalib draws them: for the projection, then for the first pick.
        """
        if self.embedding.ndim != 2 or not measurable(self.embedding):
            return super().select_coreset_idxs()
        self.model.fit(self.embedding)
        self.features = self.model.transform(self.embedding)
        first = int(torch.randint(high=self.n_observations, size=(1,)))
        return LazySelection(self.features, self.coreset_size).run(first)


class LazySelection:
    """Farthest points first, with distances updated only where the next pick could be.

    Each point keeps its distance to the nearest of the centres that it has `seen`. Later centres can only shorten
    it. So a point whose distance is below the longest one that is up to date is not the next pick, and need not be
    compared with the centres that came since. A round takes the points with the longest distances (the pool),
    brings them up to date by matrix products, and picks among them until all are below those outside.

    Args:
        features: n×d float32 on the CPU, `measurable`.
        size: number of picks.
    """

    def __init__(self, features: Tensor, size: int) -> None:
        self.features = features
        self.size = size
        self.picks: list[int] = []
        self.origin = features[:: -(-len(features) // 4096)].mean(dim=0)  # of a sample: any vector will do
        self.centres = Points(torch.zeros(size, features.shape[1]), torch.zeros(size, features.shape[1]))

    def run(self, first: int) -> list[int]:
        """Return the picks, beginning with `first`."""
        self._pick(first)
        self.distance = np.concatenate([exact(rows, self.features[first]) for rows in self.features.split(CHUNK)])
        self.seen = np.ones(len(self.features), np.int64)
        count = FIRST_POOL
        while len(self.picks) < self.size:
            done = len(self.picks)
            pool, shortest = self._farthest(count)
            if self.distance[pool].max() == 0:  # every point equals a centre; the first of all is anomalib's choice
                return self.picks + [0] * (self.size - done)
            self._update(pool)
            self._pick_from(pool, shortest)
            count = _next_count(count, len(self.picks) - done)
        return self.picks

    def _pick(self, point: int) -> None:
        self.centres.put(len(self.picks), self.features[point], self.features[point] - self.origin)
        self.picks.append(point)

    def _farthest(self, count: int) -> tuple[Indices, np.float32]:
        """Return the `count` points with the longest distances (an eighth of all at most), and all that tie with them.

        They ascend, and come with the shortest of their distances.
        """
        place = len(self.distance) - min(count, 1 + len(self.distance) // 8)
        shortest = np.partition(self.distance, place)[place]
        return np.flatnonzero(self.distance >= shortest), shortest

    def _update(self, pool: Indices) -> None:
        """Bring the distances of points up to date."""
        stale = pool[self.seen[pool] < len(self.picks)]
        stale = stale[np.argsort(self.seen[stale], kind="stable")]
        for start in range(0, len(stale), BATCH):
            batch = stale[start : start + BATCH]
            rows = take(self.features, batch)
            nearest = Nearest(Points(rows, rows - self.origin), self.distance[batch])
            for begin in range(int(self.seen[batch[0]]), len(self.picks), BLOCK):
                end = min(begin + BLOCK, len(self.picks))
                nearest.offer(np.arange(len(batch)), self.centres, begin, end)
            self.distance[batch] = nearest.distance
        self.seen[pool] = len(self.picks)

    def _pick_from(self, pool: Indices, shortest: np.float32) -> None:
        """Pick among points that are up to date until all are nearer than `shortest`, the least distance in `pool`.

        All points outside are nearer than that. Of equal points the first is picked, as by `torch.max`.
        """
        rows, distance = take(self.features, pool), self.distance[pool]
        while len(self.picks) < self.size and len(pool):
            farthest = int(distance.argmax())
            if distance[farthest] < shortest:
                break
            self._pick(int(pool[farthest]))
            np.minimum(distance, exact(rows, rows[farthest]), out=distance)
            distance[farthest] = 0
            far = np.flatnonzero(distance >= shortest)
            if 2 * len(far) < len(pool):  # the others cannot be picked in this round
                self._keep(pool, distance)
                pool, rows, distance = pool[far], take(rows, far), distance[far]
        self._keep(pool, distance)

    def _keep(self, pool: Indices, distance: Floats) -> None:
        self.distance[pool] = distance
        self.seen[pool] = len(self.picks)


def _next_count(count: int, picks: int) -> int:
    """Return how many points to take next, given how many were picked among the last `count`."""
    if picks < FEW:
        return min(2 * count, LARGEST_POOL)
    return max(count // 2, SMALLEST_POOL) if picks > MANY else count

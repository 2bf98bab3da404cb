"""Our search in a memory bank against scikit-learn's brute force and anomalib's matrix of distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from harness.models.patchcore import distances, neighbours
from harness.models.patchcore.neighbours import BankSearch


@st.composite
def searches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """A bank and queries, clustered or not, far from the origin or not; some queries are rows of the bank."""
    dim, rows, count = draw(st.integers(1, 24)), draw(st.integers(1, 200)), draw(st.integers(1, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    clusters = generator.normal(size=(5, dim)) * draw(st.sampled_from([0, 1, 20]))
    bank, queries = (clusters[generator.integers(5, size=size)] for size in (rows, count))
    bank, queries = (points + generator.normal(size=points.shape) for points in (bank, queries))
    same = generator.random(count) < 0.2
    queries[same] = bank[generator.integers(rows, size=same.sum())]
    scale, offset = draw(st.sampled_from([1e-3, 1, 1e4])), draw(st.sampled_from([0, 10]))
    return tuple(torch.from_numpy((scale * (points + offset)).astype(np.float32)) for points in (bank, queries))


def _true(bank: torch.Tensor, queries: torch.Tensor, count: int = 1) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=count, algorithm="brute", metric="minkowski").fit(bank.double().numpy())
    return search.kneighbors(queries.double().numpy())[0]


@pytest.fixture(params=["as it is", "tiny"], scope="module", autouse=True)
def _sizes(request: pytest.FixtureRequest) -> None:
    """Also with sizes so small that small banks have many balls and every loop goes round."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "tiny":
            for module, name, value in (
                (neighbours, "BALL", 6), (neighbours, "FEWEST_BALLS", 2), (neighbours, "CHUNK", 13),
                (neighbours, "FEW", 7), (neighbours, "TILE", 50), (distances, "TILE", 12), (distances, "PAIRS", 3),
            ):  # fmt: skip
                patch.setattr(module, name, value)
        yield


@settings(max_examples=50, deadline=None)
@given(searches())
def test_the_nearest_row_is_brute_forces(points: tuple[torch.Tensor, torch.Tensor]) -> None:
    bank, queries = points
    distance, index = BankSearch(bank).nearest(queries)
    size = float(bank.abs().max())
    np.testing.assert_allclose(distance, _true(bank, queries)[:, 0], rtol=1e-5, atol=1e-6 * size)
    there = torch.linalg.vector_norm(queries - bank[index], dim=1)
    torch.testing.assert_close(there, distance, rtol=1e-5, atol=1e-6 * size)


@settings(max_examples=50, deadline=None)
@given(searches(), st.integers(2, 12))
def test_several_nearest_rows_are_brute_forces(points: tuple[torch.Tensor, torch.Tensor], count: int) -> None:
    bank, queries = points
    count = min(count, len(bank))
    distance, index = BankSearch(bank).several(queries, count)
    size = float(bank.abs().max())
    np.testing.assert_allclose(distance, _true(bank, queries, count), rtol=1e-5, atol=1e-6 * size)
    there = torch.linalg.vector_norm(queries[:, None] - bank[index], dim=2)
    torch.testing.assert_close(there, distance, rtol=1e-5, atol=1e-6 * size)
    assert all(len(set(row)) == count for row in index.tolist())


@settings(max_examples=30, deadline=None)
@given(searches())
def test_rows_of_the_bank_are_found_at_distance_0(points: tuple[torch.Tensor, torch.Tensor]) -> None:
    bank, _ = points
    search = BankSearch(bank)
    distance, index = search.nearest(bank)
    assert (distance == 0).all()
    assert bank[index].equal(bank)
    assert (search.several(bank, 1)[0] == 0).all()


@settings(max_examples=30, deadline=None)
@given(searches(), st.integers(0, 2**32))
def test_a_score_does_not_depend_on_the_other_queries(points: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
    bank, queries = points
    search = BankSearch(bank)
    distance, _ = search.nearest(queries)
    some = torch.from_numpy(np.random.default_rng(seed).permutation(len(queries))[: 1 + len(queries) // 2])
    assert search.nearest(queries[some])[0].equal(distance[some])


def test_most_balls_are_left_out_where_points_lie_in_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(40, 16, generator=generator)
    bank = (centres[:, None] + torch.randn(40, 200, 16, generator=generator)).transpose(0, 1).flatten(0, 1)
    queries = centres + torch.randn(40, 16, generator=generator)
    search = BankSearch(bank)
    compared = []
    offer = distances.Nearest.offer

    def counted(self: distances.Nearest, which: distances.Indices, *others: object) -> None:
        compared.append(len(which) * (others[2] - others[1]))  # type: ignore[operator]
        offer(self, which, *others)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances.Nearest, "offer", counted)
        distance, _ = search.nearest(queries)
    np.testing.assert_allclose(distance, _true(bank, queries)[:, 0], rtol=1e-5)
    assert sum(compared) < 0.2 * len(bank) * len(queries)

"""Our k-centre selection against anomalib's: the same picks, the same random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from anomalib.models.components import KCenterGreedy as AnomalibKCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.models.patchcore import distances, k_center
from harness.models.patchcore.distances import Nearest, Points, approximate, exact
from harness.models.patchcore.k_center import KCenterGreedy, LazySelection


def _select(sampler: type[AnomalibKCenterGreedy], embedding: torch.Tensor, ratio: float) -> tuple[object, ...]:
    """Return the picks and the states of both random generators afterwards."""
    torch.manual_seed(7)
    np.random.seed(7)
    picks = sampler(embedding, ratio).select_coreset_idxs()
    return picks, torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), np.random.get_state()[2]


def _greedy(features: torch.Tensor, size: int, first: int) -> list[int]:
    """anomalib's loop, in the features that the projection gives."""
    sampler = AnomalibKCenterGreedy(features, 1.0)
    sampler.features = features
    picks = [first]
    for _ in range(size - 1):
        sampler.update_distances(picks[-1])
        picks.append(int(sampler.get_new_idx()))
        sampler.min_distances[picks[-1]] = 0.0
    return picks


@st.composite
def clouds(draw: st.DrawFn) -> torch.Tensor:
    """Clusters of any spread, some points twice, on a grid (many ties) or not, near the origin or far from it."""
    count, dim = draw(st.integers(2, 300)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    clusters = generator.normal(size=(draw(st.integers(1, 6)), dim)) * draw(st.sampled_from([0, 1, 30]))
    points = clusters[generator.integers(len(clusters), size=count)]
    points = points + generator.normal(size=(count, dim)) * draw(st.sampled_from([0, 1e-4, 1]))
    if draw(st.booleans()):
        points = np.round(points)
    points[generator.random(count) < draw(st.sampled_from([0, 0.5]))] = points[0]
    points = (points + draw(st.sampled_from([0, 100]))) * draw(st.sampled_from([1e-20, 1e-3, 1, 1e6]))
    return torch.from_numpy(points.astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(embedding=clouds(), ratio=st.floats(0.01, 1))
def test_picks_and_random_numbers_are_anomalibs(embedding: torch.Tensor, ratio: float) -> None:
    ratio = max(ratio, 1.001 / len(embedding))
    assert _select(KCenterGreedy, embedding, ratio) == _select(AnomalibKCenterGreedy, embedding, ratio)


@settings(max_examples=60, deadline=None)
@given(features=clouds(), share=st.floats(0.05, 1), pool=st.integers(1, 40), data=st.data())
def test_picks_do_not_depend_on_how_the_work_is_divided(
    features: torch.Tensor, share: float, pool: int, data: st.DataObject
) -> None:
    """Sizes so small that every loop goes round many times."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (k_center, "SMALLEST_POOL", 1), (k_center, "FIRST_POOL", pool), (k_center, "LARGEST_POOL", 64),
            (k_center, "BATCH", 5), (k_center, "BLOCK", 7), (k_center, "CHUNK", 11),
            (distances, "TILE", 12), (distances, "PAIRS", 3),
        ):  # fmt: skip
            patch.setattr(module, name, value)
        size, first = max(1, int(share * len(features))), data.draw(st.integers(0, len(features) - 1))
        assert LazySelection(features, size).run(first) == _greedy(features, size, first)


@pytest.fixture(scope="module")
def patches() -> torch.Tensor:
    """PatchCore's embedding of 6 noisy images by an untrained ResNet18: 1536×384."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model("resnet18", zero_init_last=False)
        model = AnomalibPatchcoreModel(("layer2", "layer3"), backbone)
        model.feature_extractor.eval()
        images = torch.nn.functional.interpolate(torch.rand(6, 3, 16, 16), size=128) + 0.1 * torch.rand(6, 3, 128, 128)
        return model(images).detach()


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.6])
def test_picks_of_patch_features_are_anomalibs(patches: torch.Tensor, ratio: float) -> None:
    assert _select(KCenterGreedy, patches, ratio) == _select(AnomalibKCenterGreedy, patches, ratio)


def test_picks_are_anomalibs_where_products_are_rounded_to_bfloat16(patches: torch.Tensor) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert _select(KCenterGreedy, patches, 0.2) == _select(AnomalibKCenterGreedy, patches, 0.2)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_in_other_precisions_it_is_anomalibs(patches: torch.Tensor, dtype: torch.dtype) -> None:
    embedding = patches[:200].to(dtype)
    assert _select(KCenterGreedy, embedding, 0.1) == _select(AnomalibKCenterGreedy, embedding, 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e15])
def test_for_values_without_bounds_it_is_anomalibs(patches: torch.Tensor, value: float) -> None:
    embedding = patches[:200].clone()
    embedding[20, 3] = value
    assert _select(KCenterGreedy, embedding, 0.1) == _select(AnomalibKCenterGreedy, embedding, 0.1)


def test_few_points_need_a_distance(patches: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def counted(rows: torch.Tensor, others: torch.Tensor) -> distances.Floats:
        measured.append(len(rows))
        return exact(rows, others)

    monkeypatch.setattr(distances, "exact", counted)
    monkeypatch.setattr(k_center, "exact", counted)
    LazySelection(patches, 300).run(0)
    assert sum(measured) < 0.2 * 300 * len(patches)


@settings(max_examples=40, deadline=None)
@given(features=clouds(), seed=st.integers(0, 2**32))
def test_a_distance_does_not_depend_on_how_many_are_computed(features: torch.Tensor, seed: int) -> None:
    """What the whole selection stands on: rows in any number and order have bitwise equal norms."""
    every = exact(features, features[0])
    generator = np.random.default_rng(seed)
    for count in {1, 2, 3, len(features) // 2, len(features) - 1}:
        some = torch.from_numpy(generator.permutation(len(features))[:count])
        assert np.array_equal(exact(features[some], features[0]), every[some.numpy()])
        assert np.array_equal(exact(features[some], features[torch.zeros_like(some)]), every[some.numpy()])


@settings(max_examples=60, deadline=None)
@given(features=clouds())
def test_approximate_distances_are_within_their_slack(features: torch.Tensor) -> None:
    origin = features.mean(dim=0)
    points = Points(features, features - origin)
    squared = (
        approximate(points.centred, points).astype(np.float64) + np.square(points.norms.astype(np.float64))[:, None]
    )
    true = np.stack([exact(features, row) for row in features]).astype(np.float64) ** 2
    assert (np.abs(squared - true) <= points.slack(points)[:, None]).all()


@settings(max_examples=60, deadline=None)
@given(features=clouds(), given_=st.booleans())
def test_the_nearest_offered_row_is_found(features: torch.Tensor, given_: bool) -> None:
    half = len(features) // 2
    centred = features - features.mean(dim=0)
    ours, others = Points(features[:half], centred[:half]), Points(features[half:], centred[half:])
    table = np.stack([exact(features[half:], row) for row in features[:half]])
    known = np.median(table, axis=1) if given_ else None
    nearest = Nearest(ours, None if known is None else known.copy())
    nearest.offer(np.arange(half), others, 0, 1)
    nearest.offer(np.arange(half), others, 0, len(others))

    least = table.min(axis=1)
    assert np.array_equal(nearest.distance, least if known is None else np.minimum(least, known))
    found = nearest.index >= 0
    assert np.array_equal(found, np.ones(half, bool) if known is None else least < known)
    assert np.array_equal(table[np.flatnonzero(found), nearest.index[found]], least[found])


def test_an_empty_coreset_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"method\.coreset_sampling_ratio=0\.001 .*500.*such as 0\.004"):
        KCenterGreedy(torch.rand(500, 4), 0.001)


def test_the_proposed_ratio_is_enough() -> None:
    for count in (1, 3, 7, 49, 500, 214_016):
        with pytest.raises(ConfigError) as error:
            KCenterGreedy(torch.zeros(count, 1), 0.5 / count)
        proposed = float(str(error.value).rsplit(" ", 1)[1].rstrip("."))
        assert KCenterGreedy(torch.zeros(count, 1), proposed).coreset_size >= 1

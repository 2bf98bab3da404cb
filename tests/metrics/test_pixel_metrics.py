"""Pixel metrics against scikit-learn and against PRO and sPRO written down as they are defined."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from harness import metrics


def reference_auspro(regions, maps, limit):
    """The definition, one threshold at a time: sPRO and FPR at every score, trapezoids up to the limit."""
    images = list(zip(regions, maps, strict=True))
    unions = [np.any([np.zeros(m.shape, bool), *(r for r, _ in rs)], axis=0) for rs, m in images]
    present = [(r, s, m) for rs, m in images for r, s in rs if r.any()]
    normal = sum(int((~u).sum()) for u in unions)
    if not present or not normal:
        return np.nan
    points = [(0.0, 0.0)]
    for t in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        overlap = np.mean([min(1.0, (r & (m >= t)).sum() / s) for r, s, m in present])
        false_positives = sum((~u & (m >= t)).sum() for u, m in zip(unions, maps, strict=True))
        points.append((false_positives / normal, overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit < x1:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def eight_connected(mask):
    """The regions of a mask by flooding, each with its area."""
    left = {tuple(p) for p in np.argwhere(mask)}
    regions = []
    while left:
        edge, region = [left.pop()], np.zeros(mask.shape, bool)
        while edge:
            y, x = edge.pop()
            region[y, x] = True
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        regions.append((region, float(region.sum())))
    return regions


SCORES = st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 1.0, 3.0, 40.0])


@st.composite
def scored_images(draw):
    """(regions, masks, maps) of 1 to 4 images of different sizes: overlaps, ties, hidden pixels."""
    regions, masks, maps = [], [], []
    for _ in range(draw(st.integers(1, 4))):
        shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        found = draw(st.lists(hnp.arrays(bool, shape), max_size=3))
        saturation = [draw(st.sampled_from([0.4, 1, 2.5, m.sum() or 7, 1.5 * m.sum() + 1])) for m in found]
        regions.append([(m, float(s)) for m, s in zip(found, saturation, strict=True)])
        masks.append(np.any([np.zeros(shape, bool), *found], axis=0))
        maps.append(draw(hnp.arrays(np.float32, shape, elements=SCORES)))
    return regions, masks, maps


@given(scored_images(), st.sampled_from([0.05, 0.3, 0.75, 1.0]))
def test_auspro_equals_its_definition(images, limit):
    regions, masks, maps = images
    expected = pytest.approx(reference_auspro(regions, maps, limit), abs=1e-12, nan_ok=True)
    assert metrics.auspro(regions, maps, limit) == expected
    assert metrics.PixelEvaluator(masks, regions, auspro_limit=limit).evaluate(maps)["auspro"] == expected


@given(scored_images(), st.sampled_from([0.05, 0.3, 0.75, 1.0]))
def test_aupro_equals_its_definition_on_eight_connected_regions(images, limit):
    _, masks, maps = images
    regions = [eight_connected(mask) for mask in masks]
    expected = pytest.approx(reference_auspro(regions, maps, limit), abs=1e-12, nan_ok=True)
    assert metrics.aupro(masks, maps, limit) == expected
    assert metrics.PixelEvaluator(masks, aupro_limit=limit).evaluate(maps)["aupro"] == expected
    assert metrics.PixelEvaluator(masks, auspro_limit=limit).evaluate(maps)["auspro"] == expected


@given(scored_images())
def test_auroc_and_ap_equal_scikit_learn(images):
    _, masks, maps = images
    truth = np.concatenate([m.ravel() for m in masks])
    scores = np.concatenate([m.ravel() for m in maps])
    if truth.all() or not truth.any():
        expected = np.nan, np.nan
    else:  # scikit-learn refuses infinities; only the order counts
        finite = np.maximum(scores, -1e6)
        expected = roc_auc_score(truth, finite), average_precision_score(truth, finite)
    assert metrics.pixel_auroc(masks, maps) == pytest.approx(expected[0], abs=1e-12, nan_ok=True)
    assert metrics.pixel_ap(masks, maps) == pytest.approx(expected[1], abs=1e-12, nan_ok=True)
    found = metrics.PixelEvaluator(masks).evaluate(maps)
    assert (found["pixel_auroc"], found["pixel_ap"]) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(scored_images(), st.randoms(use_true_random=False))
def test_order_and_monotone_transforms_do_not_matter(images, random):
    regions, masks, maps = images
    expected = pytest.approx(metrics.PixelEvaluator(masks, regions).evaluate(maps), abs=1e-12, nan_ok=True)
    with np.errstate(over="ignore"):
        grown = [np.where(m == -np.inf, m, np.float32(2) * m + 5) for m in maps]
    assert metrics.PixelEvaluator(masks, regions).evaluate(grown) == expected
    order = random.sample(range(len(maps)), len(maps))
    regions, masks, maps = ([part[i] for i in order] for part in (regions, masks, maps))
    assert metrics.PixelEvaluator(masks, regions).evaluate(maps) == expected


def smooth_data(seed=0):
    """40 realistic images, a third good: blobs as defects, smooth maps that find them in part."""
    rng = np.random.default_rng(seed)
    maps = ndimage.gaussian_filter(rng.normal(size=(40, 48, 48)), (0, 2, 2))
    masks = ndimage.gaussian_filter(rng.normal(size=(40, 48, 48)), (0, 3, 3)) > 0.12
    masks[::3] = False
    return masks, (maps + 0.1 * masks).astype(np.float32)


def test_realistic_maps_and_one_evaluator_for_many_epochs():
    masks, maps = smooth_data()
    regions = [
        [(mask & (np.arange(48) < 24), 40.0), (mask & (np.arange(48) >= 20), 33.3)] if mask.any() else []
        for mask in masks
    ]
    evaluator = metrics.PixelEvaluator(masks, regions)
    for epoch in (maps, -maps, maps):
        before = epoch.copy()
        few = np.round(epoch * 50) / 50  # the reference takes one pass a distinct score
        assert evaluator.evaluate(epoch) == {
            "pixel_auroc": pytest.approx(roc_auc_score(masks.ravel(), epoch.ravel()), abs=1e-12),
            "pixel_ap": pytest.approx(average_precision_score(masks.ravel(), epoch.ravel()), abs=1e-12),
            "aupro": metrics.aupro(masks, epoch),
            "auspro": metrics.auspro(regions, epoch),
        }
        assert evaluator.evaluate(few)["auspro"] == pytest.approx(reference_auspro(regions, few, 0.05), abs=1e-12)
        assert np.array_equal(epoch, before), "the maps belong to the caller"


def test_saturation_area_caps_and_limits_the_overlap():
    mask = np.zeros((4, 5), bool)
    mask[:2, :2] = True
    perfect = [mask.astype(np.float32)]
    assert metrics.auspro([[(mask, 4.0)]], perfect) == 1.0
    assert metrics.auspro([[(mask, 8.0)]], perfect) == 0.5, "4 of 8 pixels at most"
    half = [np.where(np.arange(5) < 1, perfect[0], 0)]  # 2 of the 4 pixels stand out
    assert metrics.auspro([[(mask, 2.0)]], half) == 1.0
    assert metrics.auspro([[(mask, 4.0)]], half, max_fpr=1.0) == pytest.approx(0.75)


def test_constant_maps_and_hidden_pixels():
    masks, _ = smooth_data()
    found = metrics.PixelEvaluator(masks).evaluate(np.full(masks.shape, 7.0))
    assert found["pixel_auroc"] == pytest.approx(0.5)
    assert found["pixel_ap"] == pytest.approx(masks.mean())
    assert (found["aupro"], found["auspro"]) == pytest.approx((0.15, 0.025))
    hidden = metrics.PixelEvaluator(masks).evaluate(np.full(masks.shape, -np.inf))
    assert hidden == found


def test_scores_keep_their_precision():
    mask = np.array([[True, False]])
    assert metrics.pixel_auroc([mask], [np.array([[1 + 1e-15, 1.0]])]) == 1.0
    assert metrics.pixel_auroc([mask], [np.nextafter(np.float32([[30, 30]]), np.float32([[31, 29]]))]) == 1.0
    mixed = [np.float32([[0.0, 0.0]]), np.array([[1 + 1e-15, 1.0]])]
    assert metrics.pixel_auroc([mask, mask], mixed) == 0.625


@pytest.mark.parametrize("value", [False, True])
def test_without_both_kinds_of_pixels_all_is_nan(value):
    masks, maps = smooth_data()
    masks = np.full_like(masks, value)
    regions = [[(mask, 5.0)] for mask in masks]
    for evaluator in (metrics.PixelEvaluator(masks), metrics.PixelEvaluator(masks, regions)):
        assert np.isnan(list(evaluator.evaluate(maps).values())).all()


def test_a_region_without_pixels_is_left_out():
    masks, maps = smooth_data()
    regions = [[(mask, 30.0)] if mask.any() else [] for mask in masks]
    with_empty = [[*found, (np.zeros((48, 48), bool), 0.0)] for found in regions]
    assert metrics.auspro(with_empty, maps) == metrics.auspro(regions, maps)


def test_torch_tensors():
    masks, maps = smooth_data()
    regions = [[(mask, 30.0)] for mask in masks]
    expected = metrics.PixelEvaluator(masks, regions).evaluate(maps)
    tensors = torch.tensor(maps, requires_grad=True)
    for given_maps in (tensors, list(tensors)):
        evaluator = metrics.PixelEvaluator(
            torch.tensor(masks).int(), [[(torch.tensor(m), torch.tensor(s)) for m, s in r] for r in regions]
        )
        assert evaluator.evaluate(given_maps) == expected


M = np.array([[True, False], [False, False]])
A = np.arange(4, dtype=np.float32).reshape(2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.pixel_auroc([M, M], [A]), "2 masks but 1 maps"),
        (lambda: metrics.pixel_auroc([M, M], [A, A[:1]]), r"image 1: the map has the shape \(1, 2\)"),
        (lambda: metrics.pixel_auroc([M], [A[None]]), r"image 0: expected an array of shape \(H, W\)"),
        (lambda: metrics.pixel_auroc([], []), "no images"),
        (lambda: metrics.pixel_ap([M, M * 255], [A, A]), "mask of image 1"),
        (lambda: metrics.aupro([M, M], [A, np.where(M, np.nan, A)]), "image 1: the map holds nan"),
        (lambda: metrics.aupro([M, M], [np.where(M, np.inf, A), A]), "image 0: the map holds nan or"),
        (lambda: metrics.aupro([M], [A], max_fpr=0), "max_fpr"),
        (lambda: metrics.auspro([[(M, 1.0)]], [A], max_fpr=30), "max_fpr"),
        (lambda: metrics.auspro([[(M, 1.0)]], [A, A]), "1 region lists but more maps"),
        (lambda: metrics.auspro([[], [(M[:1], 1.0)]], [A, A]), "image 1: a region has the shape"),
        (lambda: metrics.auspro([[(M, 0.0)]], [A]), "image 0: a saturation area"),
        (lambda: metrics.auspro([[(M, np.nan)]], [A]), "image 0: a saturation area"),
        (lambda: metrics.PixelEvaluator([M, M], [[(M, 1.0)]]), "1 region lists but more masks"),
        (lambda: metrics.PixelEvaluator([M, ~M], [[(M, 1.0)], [(M, 1.0)]]), "image 1: the mask is not"),
        (lambda: metrics.PixelEvaluator([M], auspro_limit=-1), "auspro_limit"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_importing_and_computing_does_not_import_torch():
    code = (
        "import sys; from harness import metrics; metrics.pixel_auroc([[[0, 1]]], [[[0.0, 1.0]]]); "
        "print([m for m in ('torch', 'sklearn', 'anomalib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

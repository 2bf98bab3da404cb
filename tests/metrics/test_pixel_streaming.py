"""Pixel metrics in bounded memory: chunks, lazy maps and iterators change no bit of any value."""

import tracemalloc
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score

from harness import metrics
from harness.metrics import _ranks

NAMES = ("pixel_auroc", "pixel_ap", "aupro", "auspro")


class Lazy:
    """Maps that are made when they are asked for, and how often each was; they do not end by themselves."""

    def __init__(self, count, make):
        self.count, self.make, self.asked = count, make, Counter()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.asked[index] += 1
        return self.make(index)


def chunked(size, work):
    """What `work` returns when so many pixels are sorted at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranks, "SORTED_AT_ONCE", size)
        return work()


# Ties, hidden pixels, both signs of zero, and neighbours far from zero that any coarser number would merge.
FEW = np.array([-np.inf, -40.0, -1.0, -0.0, 0.0, 0.5, 3.0])
NEAR = np.nextafter(np.full(7, 1000, np.float32), np.float32([999] * 3 + [1000] + [1001] * 3))
CLOSE = 1000 + 1e-13 * np.arange(7)  # one float32


@st.composite
def split(draw):
    """(masks, regions, maps) of 1 to 6 images of several sizes, kinds and dtypes of scores."""
    masks, regions, maps = [], [], []
    kinds = draw(st.sampled_from([[FEW.astype(np.float32)], [NEAR], [CLOSE], [np.arange(-3, 4)], [FEW, NEAR, CLOSE]]))
    for _ in range(draw(st.integers(1, 6))):
        shape = draw(st.tuples(st.integers(0, 6), st.integers(1, 6)))
        found = draw(st.lists(hnp.arrays(bool, shape), max_size=2))
        masks.append(np.any([np.zeros(shape, bool), *found], axis=0))
        regions.append([(mask, draw(st.sampled_from([0.7, 2.0, 9.5]))) for mask in found])
        scores = draw(st.sampled_from(kinds))
        maps.append(scores[draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 6)))])
    return masks, regions, maps


@given(split(), st.sampled_from([1, 10, 33]))
def test_chunks_change_nothing(images, size):
    masks, regions, maps = images
    evaluator = metrics.PixelEvaluator(masks, regions)
    whole = np.array([evaluator.evaluate(maps)[name] for name in NAMES])
    parts = np.array([chunked(size, lambda: evaluator.evaluate(maps))[name] for name in NAMES])
    assert np.array_equal(whole, parts, equal_nan=True), "the same bits"
    if not np.isnan(whole[0]):
        truth = np.concatenate([mask.ravel() for mask in masks])
        _, order = np.unique(np.concatenate([map_.ravel() for map_ in maps]), return_inverse=True)
        assert parts[0] == pytest.approx(roc_auc_score(truth, order), abs=1e-12)
        assert parts[1] == pytest.approx(average_precision_score(truth, order), abs=1e-12)


@given(split(), st.sampled_from([1, 10, 33, 2**25]), st.sampled_from([1e-9, 0.05, 0.3, 0.5, 1.0]))
def test_sorting_up_to_the_limit_is_enough(images, size, limit):
    masks, regions, maps = images
    whole = metrics.PixelEvaluator(masks, regions, aupro_limit=limit, auspro_limit=limit).evaluate(maps)
    cut = chunked(size, lambda: (metrics.aupro(masks, maps, limit), metrics.auspro(regions, maps, limit)))
    assert np.array_equal(cut, [whole["aupro"], whole["auspro"]], equal_nan=True), "the same bits"


def test_ties_across_the_limit_are_counted_in_full():
    mask = np.zeros((10, 10), bool)
    mask[0, :5] = True
    tied = np.ones((10, 10), np.float32)
    assert chunked(8, lambda: metrics.aupro([mask], [tied], 0.1)) == pytest.approx(0.05)
    assert chunked(8, lambda: metrics.PixelEvaluator([mask]).evaluate([tied]))["pixel_auroc"] == 0.5


def smooth(index, size=96):
    """The mask and the map of an image; the images 0 and 4 have defects."""
    rng = np.random.default_rng(index)
    y, x = np.ogrid[:size, :size]
    mask = ((y - 30) ** 2 + (x - 50) ** 2 < 30) | ((y - 70) ** 2 + (x - 20) ** 2 < 12)
    mask &= index in (0, 4)
    return mask, (rng.normal(size=(size, size)) + 1.5 * mask).astype(np.float32)


def truth(count):
    """Masks and regions, one image at a time."""
    masks = (smooth(i)[0] for i in range(count))
    regions = ([(m, 0.6 * m.sum())] if m.any() else [] for m in (smooth(i)[0] for i in range(count)))
    return masks, regions


def test_iterators_and_lazy_maps_give_what_lists_give():
    maps = Lazy(8, lambda index: smooth(index)[1])
    masks, regions = map(list, truth(8))
    expected = metrics.PixelEvaluator(masks, regions).evaluate([smooth(index)[1] for index in range(8)])
    streamed = metrics.PixelEvaluator(*truth(8))
    assert chunked(5000, lambda: streamed.evaluate(maps)) == expected
    assert [maps.asked[index] for index in range(8)] == [2, 1, 1, 1, 2, 1, 1, 1], (
        "those with defects twice, the others once"
    )
    assert streamed.evaluate(smooth(index)[1] for index in range(8)) == expected
    assert metrics.pixel_ap(truth(8)[0], maps) == expected["pixel_ap"]
    assert metrics.aupro(truth(8)[0], maps) == expected["aupro"]
    assert metrics.auspro(truth(8)[1], maps) == expected["auspro"]


def test_memory_does_not_grow_with_the_number_of_good_images():
    def peak(count):
        tracemalloc.start()
        maps = Lazy(count, lambda index: smooth(index)[1])
        chunked(2**15, lambda: metrics.PixelEvaluator(*truth(count)).evaluate(maps))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    one_map = 96 * 96 * 4
    assert peak(40) < 16 * one_map
    assert peak(200) < peak(40) + 4 * one_map, "160 more maps would have been kept"


M, A = smooth(0)


def with_value(value):
    """A map with one bad pixel far from its edges."""
    map_ = A.copy()
    map_[47, 53] = value
    return map_


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.pixel_auroc([M] * 4, [A, A, A, with_value(np.nan)]), "image 3: the map holds nan or"),
        (lambda: metrics.pixel_ap([~M, M & False], [A, with_value(np.inf)]), r"image 1: the map holds nan or \+inf"),
        (lambda: metrics.aupro([M & False] * 2, [A, A[:9]]), r"image 1: the map has the shape \(9, 96\)"),
        (lambda: metrics.aupro(iter([M, M[None]]), [A, A]), r"image 1: expected an array of shape \(H, W\)"),
        (lambda: metrics.PixelEvaluator(iter([M, 2 * M])), "mask of image 1: values"),
        (lambda: metrics.PixelEvaluator(iter([])), "no images"),
        (lambda: metrics.auspro([], []), "no images"),
        (lambda: metrics.PixelEvaluator(iter([M, M]), iter([[(M, 1.0)]])), "1 region lists but more masks"),
        (lambda: metrics.PixelEvaluator(iter([M]), iter([[(M, 1.0)]] * 2)), "1 masks but more region lists"),
        (lambda: metrics.PixelEvaluator([M]).evaluate(Lazy(2, lambda _: A)), "1 masks but 2 maps"),
    ],
)
def test_bad_input_is_named_when_it_comes(call, message):
    with pytest.raises(ValueError, match=message):
        chunked(5000, call)


def test_no_score_is_rounded_where_dtypes_meet():
    mask = np.array([[True, False]])
    maps = [
        np.array([[1 + 1e-15, 1.0]]),
        np.float32([[1, 1]]),
        np.array([[2, 1]], np.uint8),
        np.array([[1, 0]], np.float16),
    ]
    for order in permutations(maps):
        assert chunked(1, lambda order=order: metrics.pixel_auroc([mask] * 4, order)) == (4 + 2.5 + 4 + 2.5) / 16

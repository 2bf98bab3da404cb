from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data.utils import read_image
from disk_layouts import write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import CenterCrop, Compose, Resize
from torchvision.tv_tensors import Mask

from harness.data.geometry import Geometry, build_geometry
from harness.data.masks import load_image
from harness.errors import ConfigError, DataError

VIEWS = [(r, f) for r in ("model", "native") for f in ("visible", "full")]


def geometry(mode: str, size: int = 32, resize: int | None = None, window: list[int] | None = None) -> Geometry:
    return build_geometry(SimpleNamespace(mode=mode, size=size, resize=resize, window=window, fill=0.5, grey=False))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Geometry, int, int]:
    """Any mode, with an image that it can take: height, width."""
    mode = draw(st.sampled_from(["resize", "center_crop", "pad", "window"]))
    h, w = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    size = draw(st.integers(1, 40))
    resize = size + draw(st.integers(0, 20))
    window = [draw(st.integers(1, w)), draw(st.integers(1, h))]
    return geometry(mode, size, resize, window), h, w


@given(cases(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=150)
def test_place_and_truth_share_a_shape_in_every_view(case: tuple[Geometry, int, int], seed: int) -> None:
    g, h, w = case
    rng = np.random.default_rng(seed)
    region, scores = rng.random((h, w)) < 0.3, rng.random((g.size, g.size), dtype=np.float32)
    for resolution, frame in VIEWS:
        placed = g.place(scores, h, w, resolution, frame, outside=-7)
        truth = g.truth(region, resolution, frame)
        assert placed.shape == truth.shape and placed.dtype == np.float32 and truth.dtype == bool
        assert placed.size > 0
        if frame == "visible":
            assert placed.min() >= scores.min() - 1e-6  # nothing of it is outside
    assert g.place(scores, h, w, "native", "full").shape == (h, w)
    assert (g.truth(region, "native", "full") == region).all()
    assert g.mask(region).shape == (g.size, g.size)
    assert (g.mask(region)[g.content(h, w)] == g.truth(region, "model", "visible")).all()


@given(cases())
@settings(deadline=None, max_examples=100)
def test_a_constant_map_stays_constant_and_outside_is_what_was_not_seen(case: tuple[Geometry, int, int]) -> None:
    g, h, w = case
    for resolution in ("model", "native"):
        visible = g.place(np.full((g.size, g.size), 0.25), h, w, resolution, "visible", outside=-1)
        full = g.place(np.full((g.size, g.size), 0.25), h, w, resolution, "full", outside=-1)
        assert np.allclose(visible, 0.25)
        assert np.isclose(full, 0.25).sum() == visible.size and (full == -1).sum() == full.size - visible.size
        if g.mode in ("resize", "pad"):
            assert full.shape == visible.shape


@given(cases())
@settings(deadline=None, max_examples=60)
def test_the_model_sees_the_visible_pixels_where_the_mask_says(case: tuple[Geometry, int, int]) -> None:
    g, h, w = case
    image = g.image(np.full((h, w, 3), 255, dtype=np.uint8))
    assert image.shape == (3, g.size, g.size) and image.dtype == torch.float32
    inside = np.zeros((g.size, g.size), dtype=bool)
    inside[g.content(h, w)] = True
    assert torch.allclose(image[:, inside], torch.tensor(1.0))
    assert torch.allclose(image[:, ~inside], torch.tensor(0.5))
    assert (g.mask(np.ones((h, w), dtype=bool)) == inside).all()


@pytest.mark.parametrize(
    ("g", "transform"),
    [
        (geometry("resize", 32), Resize((32, 32), antialias=True)),
        (geometry("center_crop", 28, 32), Compose([Resize((32, 32), antialias=True), CenterCrop((28, 28))])),
        (geometry("center_crop", 21, 32), Compose([Resize((32, 32), antialias=True), CenterCrop((21, 21))])),
    ],
)
def test_equals_anomalibs_transform(g: Geometry, transform: torch.nn.Module, tmp_path) -> None:
    path = write_image(tmp_path / "a.png", size=(90, 61))
    expected = transform(read_image(path, as_tensor=True))
    assert torch.allclose(g.image(load_image(path)), expected, atol=1e-6)
    mask = np.random.default_rng(0).random((61, 90)) < 0.4
    assert (g.mask(mask) == transform(Mask(torch.from_numpy(mask))).numpy()).all()


def test_masks_are_torchvisions_nearest() -> None:
    mask = np.random.default_rng(1).random((37, 53)) < 0.5
    reference = Resize((32, 32), interpolation=InterpolationMode.NEAREST)(torch.from_numpy(mask[None]).byte())[0]
    assert (geometry("resize").mask(mask) == reference.bool().numpy()).all()


def test_pad_keeps_aspect_and_centres() -> None:
    g = geometry("pad", 128)
    assert g.content(112, 192) == (slice(26, 101), slice(0, 128))
    assert g.content(192, 112) == (slice(0, 128), slice(26, 101))
    assert g.content(50, 50) == (slice(0, 128), slice(0, 128))


def test_window_cuts_native_pixels_around_the_centre() -> None:
    g = geometry("window", 20, window=[20, 10])
    image = np.zeros((30, 50, 3), dtype=np.uint8)
    image[10:20, 15:35] = 255
    assert (g.image(image) == 1).all()
    seen = g.place(np.ones((20, 20)), 30, 50, "native", "full", outside=0).astype(bool)
    assert (seen == (image[..., 0] > 0)).all()
    with pytest.raises(DataError, match=r"\[20,10\] .* does not fit an image of 19×30"):
        g.image(np.zeros((30, 19, 3), dtype=np.uint8))


def test_a_defect_cropped_away_counts_in_the_full_frame_only() -> None:
    g = geometry("center_crop", 16, 32)
    region = np.zeros((64, 64), dtype=bool)
    region[0:8, 0:8] = True
    for resolution in ("model", "native"):
        assert g.regions([(region, 64.0)], resolution, "visible") == []
        [(mask, area)] = g.regions([(region, 64.0)], resolution, "full")
        placed = g.place(np.ones((16, 16)), 64, 64, resolution, "full", outside=-np.inf)
        assert mask.any() and area == mask.sum() and (placed[mask] == -np.inf).all()


def test_center_crop_places_native_pixels_where_they_are() -> None:
    """A map that is the x coordinate of the resized image comes back as the x coordinate of the native pixel."""
    g = geometry("center_crop", 20, 40)
    x = np.broadcast_to(np.arange(10, 30) + 0.5, (20, 20)).astype(np.float32)
    full = g.place(x, 80, 120, "native", "full", outside=-1)
    seen = full[0 + 40] >= 0
    expected = (np.arange(120) + 0.5) * 40 / 120
    inner = seen & (expected > 10.5) & (expected < 29.5)
    assert inner.sum() > 50 and np.allclose(full[40][inner], expected[inner], atol=1e-4)
    assert seen.sum() == 60 and seen[30:90].all()  # the middle half of 120 columns


@given(cases(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_saturation_keeps_its_share_of_the_region(case: tuple[Geometry, int, int], seed: int) -> None:
    g, h, w = case
    region = np.random.default_rng(seed).random((h, w)) < 0.5
    if not region.any():
        return
    area = int(region.sum())
    for resolution, frame in VIEWS:
        placed = g.regions([(region, float(area)), (region, area / 2)], resolution, frame)
        assert all(saturation == mask.sum() for mask, saturation in placed[:1])  # plain: its whole area, exactly
        assert all(saturation == mask.sum() / 2 for mask, saturation in placed[1:])
    assert g.regions([(region, 3.7)], "native", "full")[0][1] == pytest.approx(3.7, abs=1e-12)


@pytest.mark.parametrize(
    ("mode", "kwargs", "message"),
    [
        ("crop", {}, "resize, center_crop, pad, window"),
        ("center_crop", {}, "needs preprocess.resize"),
        ("center_crop", {"resize": 31}, "at least preprocess.size=32"),
        ("window", {}, "needs preprocess.window"),
        ("window", {"window": [5]}, r"needs preprocess.window=\[width,height\]"),
        ("resize", {"size": 0}, "must be positive"),
    ],
)
def test_impossible_configurations_are_refused(mode: str, kwargs: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        geometry(mode, **kwargs)


def test_tensors_are_welcome() -> None:
    scores = torch.rand(32, 32, requires_grad=True)
    assert geometry("pad").place(scores, 20, 40, "native", "full").shape == (20, 40)

"""Placeholders and what answers them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models.components import TimmFeatureExtractor
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from harness.features.modules import ImageByImage, ResidentSource, StoredFeatures, StoredSource, split, tell_once
from harness.features.placeholder import placeholders, rows_of
from harness.features.store import Context, DiskShelf
from harness.models.backbones import create_backbone


@given(st.lists(st.integers(0, 2**22 - 2), min_size=1, max_size=20))
def test_placeholders_say_their_rows(rows: list[int]) -> None:
    images = ImageBatch(image=placeholders(torch.tensor(rows), 16), gt_label=[0] * len(rows)).image
    assert images.shape == (len(rows), 3, 16, 16)
    assert images.untyped_storage().nbytes() == 4 * len(rows)
    assert rows_of(images).tolist() == rows
    assert rows_of(images.type(torch.float32)).tolist() == rows


@pytest.mark.parametrize("look", [lambda x: x * 0 + 1, lambda x: x.mean(), nn.Conv2d(3, 2, 3), nn.Flatten()])
def test_whoever_looks_at_the_pixels_gets_nan(look: nn.Module) -> None:
    assert torch.isnan(look(placeholders(torch.tensor([1, 2]), 8))).all()


def test_images_are_no_placeholders() -> None:
    with pytest.raises(ValueError, match="images instead of placeholders"):
        rows_of(torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="placeholders"):
        rows_of(placeholders(torch.tensor([1, 2]), 8).half())


def test_a_gpus_nan_is_no_row() -> None:
    """A GPU's arithmetic gives this NaN, whatever the payload was."""
    canonical = torch.full((2, 3, 8, 8), 0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    with pytest.raises(ValueError, match="computed with"):
        rows_of(canonical)


def make_extractor() -> TimmFeatureExtractor:
    backbone = create_backbone(OmegaConf.create({"name": "resnet18", "weights": "random"}))
    return TimmFeatureExtractor(backbone, ["layer1", "layer3"]).eval()


def never(row: int) -> dict[str, np.ndarray]:
    raise AssertionError(f"row {row} was computed again")


def test_stored_maps_are_those_of_single_images_in_any_company() -> None:
    extractor, images = make_extractor(), torch.rand(7, 3, 64, 64)
    single = ImageByImage(extractor)
    stored = [maps for image in images for maps in split(extractor(image[None]), "float32")]
    mapped = StoredFeatures(extractor, StoredSource(stored, torch.device("cpu"), never))
    whole = {layer: torch.stack([torch.from_numpy(maps[layer]) for maps in stored]) for layer in stored[0]}
    resident = StoredFeatures(extractor, ResidentSource(whole))
    for rows in ([0, 1, 2, 3, 4, 5, 6], [5, 2, 2], [6]):
        chosen = torch.tensor(rows)
        expected = single(images[chosen])
        for module in (mapped, resident):
            found = module(placeholders(chosen, 64))
            assert list(found) == list(expected)
            assert all(torch.equal(found[layer], expected[layer]) for layer in expected)
    assert mapped.served == 11


def test_half_precision_comes_back_as_single() -> None:
    stored = split(make_extractor()(torch.rand(2, 3, 64, 64)), "float16")
    found = StoredSource(stored, torch.device("cpu"), never).gather(torch.tensor([1]))
    assert stored[0]["layer1"].dtype == "float16" and found["layer1"].dtype == torch.float32


def test_maps_that_are_gone_are_computed_again_and_count_as_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evicted by another run, or another host, while this one uses them."""
    shelf = DiskShelf(tmp_path, Context("none", "", "float32", "cpu", ""), 10**9)
    for row in range(4):
        shelf.write(str(row), {"layer1": np.full((2, 3, 3), row, np.float32)})
    kept = [shelf.read(str(row), ["layer1"]) for row in range(4)]
    source = StoredSource(kept, torch.device("cpu"), lambda row: {"layer1": np.full((2, 3, 3), 10 + row, np.float32)})
    module = StoredFeatures(torch.nn.Identity(), source)
    (lost,) = tmp_path.glob("*/layer1/2.npy")
    lost.unlink()
    tell_once.cache_clear()
    for _ in range(2):
        found = module(placeholders(torch.arange(4), 8))["layer1"]
        assert found[:, 0, 0, 0].tolist() == [0, 1, 12, 3]
    assert module.served == 2 * 3
    assert capsys.readouterr().err.count("computed again") == 1

"""What stands between the data's geometry and a model: normalisation, or standardisation of every image."""

from __future__ import annotations

import torch
from torchvision.tv_tensors import Image, Mask

from harness.models.adapter import build_model, normalisation
from harness.schema import compose


def test_standardised_images_have_mean_0_and_deviation_1_and_masks_stay() -> None:
    images, masks = Image(torch.rand(2, 3, 8, 8) * 0.3), Mask(torch.rand(2, 8, 8) > 0.5)
    found, same = normalisation(standardise=True)(images, masks)
    flat = torch.as_tensor(found).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.std(1), torch.ones(2), atol=1e-4, rtol=0)
    assert torch.as_tensor(same).equal(torch.as_tensor(masks))


def test_a_method_that_wants_plain_pixels_gets_them() -> None:
    images = torch.rand(2, 3, 64, 64)
    for overrides, changed in (
        (["method=draem_perlin"], False),
        (["method=ganomaly"], True),
        (["method=draem_perlin", "preprocess.standardise=true"], True),
    ):
        model = build_model(compose([*overrides, "preprocess.size=64"]))
        assert model.input_size == (64, 64)
        assert torch.equal(model.pre_processor(images), images) is not changed

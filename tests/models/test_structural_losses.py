"""SSIM and MSGMS against scikit-image, SciPy and explicit loops."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve
from skimage.metrics import structural_similarity

from harness.errors import ConfigError
from harness.models.components.msgms import gms, msgms
from harness.models.components.ssim import SSIM
from harness.models.encoder_decoder.loss import ReconstructionLoss

Array = NDArray[np.float64]


def _pair(seed: int = 0, height: int = 40, width: int = 56) -> tuple[Array, Array]:
    """Two images (3, H, W) in [0, 1], alike but not equal."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    image = 0.5 + 0.3 * np.sin(np.stack([rows / 5, columns / 7, (rows + columns) / 9]))
    other = np.clip(image + generator.normal(0, 0.1, image.shape), 0, 1)
    return image, other


def _batch(*images: Array) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).float()


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_is_scikit_images(data_range: float) -> None:
    image, other = (data_range * x for x in _pair())
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": data_range}
    mean, full = structural_similarity(image, other, channel_axis=0, full=True, **settings)

    values = SSIM(data_range)(_batch(image, other), _batch(other, other))

    assert values.shape == (2, 3, 30, 46)
    torch.testing.assert_close(values[0].mean(), torch.tensor(mean).float(), atol=1e-5, rtol=0)
    inside = torch.from_numpy(full[:, 5:-5, 5:-5]).float()  # beyond, scikit-image mirrors the image
    torch.testing.assert_close(values[0], inside, atol=1e-4, rtol=0)
    torch.testing.assert_close(values[1], torch.ones(3, 30, 46))


def test_ssim_stays_in_full_precision_under_autocast() -> None:
    x, y = (_batch(image) for image in _pair())
    full = SSIM()(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert SSIM()(x, y).equal(full)


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ConfigError, match="11×11"):
        SSIM()(torch.rand(1, 3, 10, 40), torch.rand(1, 3, 10, 40))


def test_the_loss_is_equation_6_with_the_sign_that_rewards_likeness() -> None:
    image, other = _pair()
    similarity = structural_similarity(
        image, other, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    l2 = np.mean((image - other) ** 2)

    parts = ReconstructionLoss()(_batch(other), _batch(image))

    torch.testing.assert_close(parts.l2, torch.tensor(l2).float())
    torch.testing.assert_close(parts.ssim, torch.tensor(1 - similarity).float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(parts.total, torch.tensor(l2 + 1 - similarity).float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(ReconstructionLoss()(_batch(image), _batch(image)).total, torch.tensor(0.0))


def test_descending_the_loss_makes_images_alike() -> None:
    image, other = _pair()
    target, guess = _batch(image), _batch(other).requires_grad_()
    loss = ReconstructionLoss()
    optimiser = torch.optim.Adam([guess], lr=0.01)
    before = loss(guess, target)
    for _ in range(20):
        optimiser.zero_grad()
        loss(guess, target).total.backward()
        optimiser.step()
    after = loss(guess, target)

    assert after.ssim < 0.2 * before.ssim
    assert after.l2 < before.l2


def _gms_by_loops(x: Array, y: Array) -> Array:
    """(C, H, W) twice -> (H, W): the formula of Xue et al. at every pixel."""
    prewitt = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]]) / 3

    def magnitude(image: Array) -> Array:
        grey = image.mean(axis=0)
        gradients = [convolve(grey, kernel, mode="nearest") for kernel in (prewitt, prewitt.T)]
        return np.sqrt(gradients[0] ** 2 + gradients[1] ** 2)

    g_x, g_y, c = magnitude(x), magnitude(y), 170 / 255**2
    similarity = np.empty_like(g_x)
    for position in np.ndindex(*g_x.shape):
        a, b = g_x[position], g_y[position]
        similarity[position] = (2 * a * b + c) / (a**2 + b**2 + c)
    return similarity


def _halved(image: Array) -> Array:
    channels, height, width = image.shape
    cut = image[:, : height // 2 * 2, : width // 2 * 2]
    return cut.reshape(channels, height // 2, 2, width // 2, 2).mean(axis=(2, 4))


def _enlarged(small: Array, height: int, width: int) -> Array:
    """Bilinear with pixels as areas: what lies beyond the outer centres repeats them."""
    rows = np.clip((np.arange(height) + 0.5) * small.shape[0] / height - 0.5, 0, small.shape[0] - 1)
    columns = np.clip((np.arange(width) + 0.5) * small.shape[1] / width - 0.5, 0, small.shape[1] - 1)
    by_rows = np.stack([np.interp(rows, np.arange(small.shape[0]), column) for column in small.T], axis=1)
    return np.stack([np.interp(columns, np.arange(small.shape[1]), row) for row in by_rows])


def test_gms_is_the_formula() -> None:
    image, other = _pair()
    expected = torch.from_numpy(_gms_by_loops(image, other)).float()

    found = gms(_batch(image, other), _batch(other, image))

    assert found.shape == (2, 1, 40, 56)
    torch.testing.assert_close(found[0, 0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], found[0])  # it is symmetric


@pytest.mark.parametrize("size", [(40, 56), (37, 50)])
def test_msgms_is_the_mean_over_four_scales(size: tuple[int, int]) -> None:
    image, other = _pair(1, *size)
    x, y, total = image, other, np.zeros(size)
    for _ in range(4):
        total += _enlarged(_gms_by_loops(x, y), *size)
        x, y = _halved(x), _halved(y)

    found = msgms(_batch(image), _batch(other))

    torch.testing.assert_close(found[0, 0], torch.from_numpy(total / 4).float(), atol=1e-5, rtol=1e-5)


def test_msgms_is_one_where_images_are_equal_and_low_where_an_edge_is_missing() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[..., :, 32:] = 1
    flat = torch.zeros(1, 3, 64, 64)

    torch.testing.assert_close(msgms(image, image), torch.ones(1, 1, 64, 64))
    lost = msgms(image, flat)
    assert lost[0, 0, 32, 31] < 0.1
    assert lost[0, 0, 32, 5] > 0.99

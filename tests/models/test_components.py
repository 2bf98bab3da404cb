"""Patch features, noise, discriminator and map against literal references."""

import pytest
import timm
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest
from torch.nn import functional as F  # noqa: N812

from harness.errors import ConfigError
from harness.models.components import Discriminator, FeatureNoise, MapHead, PatchFeatures

LAYERS = ("layer2", "layer3")


def _mean_of_neighbourhoods(x: torch.Tensor) -> torch.Tensor:
    """Eq. (1) and the average of eq. (2), position by position; beyond the border lie zeros."""
    result = torch.zeros_like(x)
    height, width = x.shape[-2:]
    for row in range(height):
        for column in range(width):
            for a in range(max(0, row - 1), min(height, row + 2)):
                for b in range(max(0, column - 1), min(width, column + 2)):
                    result[..., row, column] += x[..., a, b] / 9
    return result


def _released_aggregation(maps: list[torch.Tensor], dim: int) -> torch.Tensor:
    """What SimpleNet's code computes: unfold, enlarge every unfolded value, pool, pool again."""
    size = maps[0].shape[-2:]
    vectors = []
    for x in maps:
        values = F.unfold(x, kernel_size=3, stride=1, padding=1).unflatten(2, x.shape[-2:])  # B, C·9, h, w
        values = F.interpolate(values, size=size, mode="bilinear", align_corners=False)
        patches = values.permute(0, 2, 3, 1).flatten(0, 2)  # B·H·W, C·9
        vectors.append(F.adaptive_avg_pool1d(patches.unsqueeze(1), dim).squeeze(1))
    stacked = torch.stack(vectors, dim=1)  # B·H·W, layers, dim
    pooled = F.adaptive_avg_pool1d(stacked.flatten(1).unsqueeze(1), dim).squeeze(1)
    return pooled.reshape(len(maps[0]), *size, dim).permute(0, 3, 1, 2)


def test_averaged_features_are_equations_1_and_2() -> None:
    features = PatchFeatures("resnet18", LAYERS, pre_trained=False)
    images = torch.randn(2, 3, 64, 48)
    shallow, deep = features.extractor(images).values()
    enlarged = F.interpolate(_mean_of_neighbourhoods(deep), shallow.shape[-2:], mode="bilinear")
    expected = torch.cat([_mean_of_neighbourhoods(shallow), enlarged], dim=1)

    torch.testing.assert_close(features(images), expected, rtol=1e-4, atol=1e-5)
    assert features.dim == 384


@pytest.mark.parametrize("layers", [LAYERS, ("layer1", "layer2", "layer3")])
@pytest.mark.parametrize("dim", [1536, 100])
def test_pooled_features_are_those_of_simplenets_code(layers: tuple[str, ...], dim: int) -> None:
    features = PatchFeatures("resnet18", layers, pre_trained=False, aggregation="pool", feature_dim=dim)
    images = torch.randn(2, 3, 64, 48)
    expected = _released_aggregation(list(features.extractor(images).values()), dim)

    torch.testing.assert_close(features(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aggregation", ["concat", "pool"])
def test_wide_resnet50_gives_1536_values(aggregation: str) -> None:
    features = PatchFeatures("wide_resnet50_2", LAYERS, pre_trained=False, aggregation=aggregation)
    assert features.dim == 1536
    result = features(torch.randn(1, 3, 64, 64))
    assert result.shape == (1, 1536, 8, 8)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_feature_dim_pools_the_concatenated_channels() -> None:
    network = timm.create_model("resnet18")
    full = PatchFeatures(network, LAYERS)(images := torch.randn(1, 3, 64, 64))
    pooled = PatchFeatures(network, LAYERS, feature_dim=96)(images)
    torch.testing.assert_close(pooled, full.unflatten(1, (96, 4)).mean(2))


def test_the_backbone_stays_in_evaluation_mode_without_gradients() -> None:
    features = PatchFeatures("resnet18", LAYERS, pre_trained=False).train()
    assert not any(module.training for module in features.modules())
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert not features(torch.randn(1, 3, 64, 64).requires_grad_()).requires_grad


def test_an_unknown_layer_is_an_error() -> None:
    with pytest.raises(ConfigError, match="layer9"):
        PatchFeatures("resnet18", ("layer2", "layer9"), pre_trained=False)


def _noise_std(noise: FeatureNoise, dims: tuple[int, ...]) -> torch.Tensor:
    features = torch.randn(200, 6, 2000)
    return (noise(features) - features).std(dim=dims)


def test_an_image_shares_one_uniform_sigma() -> None:
    noise = FeatureNoise(0.005, 0.025, "image")
    sigmas = _noise_std(noise, (1, 2))
    assert kstest(sigmas.numpy(), "uniform", (0.005, 0.02)).pvalue > 0.01
    features = torch.randn(3, 6, 20000)
    per_patch = (noise(features) - features).std(dim=2)
    torch.testing.assert_close(per_patch, per_patch[:, :1].expand_as(per_patch), rtol=0.05, atol=0)


def test_a_batch_shares_one_sigma_and_batches_differ() -> None:
    noise = FeatureNoise(0.005, 0.025, "batch")
    sigmas = _noise_std(noise, (1, 2))
    torch.testing.assert_close(sigmas, sigmas.mean().expand_as(sigmas), rtol=0.05, atol=0)
    features = torch.randn(2, 2, 500)
    draws = torch.stack([(noise(features) - features).std() for _ in range(300)])
    assert kstest(draws.numpy(), "uniform", (0.005, 0.02)).pvalue > 0.01


def test_each_patch_has_its_own_sigma() -> None:
    sigmas = _noise_std(FeatureNoise(0.005, 0.025, "patch"), (2,)).flatten()
    assert kstest(sigmas.numpy(), "uniform", (0.005, 0.02)).pvalue > 0.01


def test_fixed_noise_has_the_given_sigma_and_mean_zero() -> None:
    features = torch.zeros(4, 50, 500)
    added = FeatureNoise(0.015, 0.015)(features)
    assert added.std().item() == pytest.approx(0.015, rel=0.01)
    assert added.mean().item() == pytest.approx(0, abs=2e-4)


@pytest.mark.parametrize("low, high", [(0.03, 0.01), (-0.1, 0.1)])
def test_an_impossible_range_is_an_error(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match="sigma_low"):
        FeatureNoise(low, high)


def test_the_discriminator_starts_as_in_simplenets_code() -> None:
    first, norm, activation, last = Discriminator(1536, 1024)
    assert (first.in_features, first.out_features, last.bias) == (1536, 1024, None)
    assert norm.num_features == 1024
    assert activation.negative_slope == 0.2
    assert first.weight.std().item() == pytest.approx((2 / (1536 + 1024)) ** 0.5, rel=0.02)  # xavier normal
    assert last.weight.std().item() == pytest.approx((2 / 1025) ** 0.5, rel=0.1)


def test_the_map_is_scipys_smoothing_away_from_the_border() -> None:
    scores = torch.randn(2, 1, 16, 16)
    result = MapHead(4)(scores, (128, 96))
    enlarged = F.interpolate(scores, (128, 96), mode="bilinear")
    expected = torch.stack([torch.from_numpy(gaussian_filter(x[0].numpy(), sigma=4)) for x in enlarged])

    assert result.shape == (2, 1, 128, 96)
    torch.testing.assert_close(result[:, 0, 16:-16, 16:-16], expected[:, 16:-16, 16:-16], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(MapHead(0)(scores, (128, 96)), enlarged)

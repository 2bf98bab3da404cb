"""Augmentation of training images (paper 002, section 6.1): rotation, and Gaussian noise, each with a probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from anomalib.data.dataclasses.torch import ImageItem
from torch.nn.functional import pad
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, rotate
from torchvision.tv_tensors import Image, Mask

from harness.data.torch_dataset import SampleDataset
from harness.identity import derive_seed
from harness.schema import AugmentConfig, augments


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an image; both things are drawn on their own.

    Args:
        rotation: largest angle in degrees; the angle is uniform on ±rotation, corners are filled by reflection.
        rotation_p: probability of a rotation.
        noise_variance: range of the noise's variance, uniform, drawn once an image, on the scale of 8-bit pixels.
        noise_p: probability of noise.
    """

    rotation: float
    rotation_p: float
    noise_variance: tuple[float, float]
    noise_p: float

    def __call__(
        self, image: torch.Tensor, mask: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return a new image (3, H, W), clipped to [0, 1], and its mask (H, W), turned as the image is."""
        draws = torch.rand(4, generator=generator).tolist()
        if draws[0] < self.rotation_p:
            angle = (2 * draws[1] - 1) * self.rotation
            image = _rotated(image, angle, InterpolationMode.BILINEAR)
            if mask is not None:
                mask = _rotated(mask[None].float(), angle, InterpolationMode.NEAREST)[0].bool()
        if draws[2] < self.noise_p:
            low, high = self.noise_variance
            sigma = math.sqrt(low + draws[3] * (high - low)) / 255
            image = (image + sigma * torch.randn(image.shape, generator=generator)).clamp(0, 1)
        return image, mask


def build_augmentation(config: AugmentConfig) -> Augmentation | None:
    """Return what `augment=` asks for, or None for nothing."""
    if not augments(config):
        return None
    low, high = config.noise_variance
    return Augmentation(
        config.rotation,
        config.rotation_p if config.rotation else 0.0,
        (low, high),
        config.noise_p if high else 0.0,
    )


class Augmented(Dataset[ImageItem]):
    """Training images that look different at every visit, whichever worker makes them.

    The position of an image at its visit v (0, 1, …) is v·N + index, and its draws come from the seed, its name and
    the visit: so they depend neither on the order of images nor on the number of workers.
    """

    def __init__(self, dataset: SampleDataset, augmentation: Augmentation, seed: int) -> None:
        self._dataset, self._augmentation, self._seed = dataset, augmentation, seed

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> ImageItem:
        visit, index = divmod(position, len(self))
        item = self._dataset[index]
        seed = derive_seed("augment", self._seed, self._dataset.samples[index].name, visit)
        mask = None if item.gt_mask is None else torch.as_tensor(item.gt_mask)
        pixels = torch.as_tensor(item.image)
        image, mask = self._augmentation(pixels, mask, torch.Generator().manual_seed(seed))
        item.image, item.gt_mask = Image(image), None if mask is None else Mask(mask)
        return item


def _rotated(values: torch.Tensor, angle: float, interpolation: InterpolationMode) -> torch.Tensor:
    height, width = values.shape[-2:]
    border = math.ceil(max(height, width) * (math.sqrt(2) - 1) / 2) + 1  # what a turn by 45° brings in
    border = min(border, height - 1, width - 1)
    whole = pad(values[None], [border] * 4, mode="reflect")[0]
    return center_crop(rotate(whole, angle, interpolation=interpolation), [height, width])

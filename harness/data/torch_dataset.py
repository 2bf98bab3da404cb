"""Samples as anomalib's image items."""

from collections.abc import Sequence

import torch
from anomalib.data.dataclasses.torch import ImageBatch, ImageItem
from torch.utils.data import Dataset
from torchvision.tv_tensors import Image, Mask

from harness.data.geometry import Geometry
from harness.data.masks import load_mask, load_sample
from harness.data.records import Category, Sample

Cache = dict[str, tuple[torch.Tensor, torch.Tensor | None]]  # of preprocessed images and masks

collate = ImageBatch.collate


class SampleDataset(Dataset[ImageItem]):
    """Preprocessed samples: image float32 3×size×size in [0, 1], label, mask bool size×size, path.

    The mask is the union of the defect regions, all False for good images, and absent throughout a category
    that has no masks. With a `cache` the preprocessed tensors stay in it after their first use (in each loader worker
    apart), by the sample's name; data sets of one category and geometry may share it.
    """

    def __init__(
        self, category: Category, samples: Sequence[Sample], geometry: Geometry, cache: Cache | None = None
    ) -> None:
        self.category = category
        self.samples = tuple(samples)
        self.geometry = geometry
        self.collate_fn = collate
        self._cache = cache

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> ImageItem:
        sample = self.samples[index]
        image, mask = self._tensors(index)
        return ImageItem(
            image=Image(image),
            gt_label=torch.tensor(sample.label),
            gt_mask=None if mask is None else Mask(mask),
            image_path=str(sample.path),
        )

    def load(self) -> None:
        """Fill the cache."""
        for index in range(len(self)):
            self._tensors(index)

    def _tensors(self, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        sample = self.samples[index]
        if self._cache is not None and sample.name in self._cache:
            return self._cache[sample.name]
        tensors = self.geometry.image(load_sample(sample)), self._mask(sample)
        if self._cache is not None:
            self._cache[sample.name] = tensors
        return tensors

    def _mask(self, sample: Sample) -> torch.Tensor | None:
        if not self.category.masked:
            return None
        if not sample.masks:
            return torch.zeros(self.geometry.size, self.geometry.size, dtype=torch.bool)
        return torch.from_numpy(self.geometry.mask(load_mask(self.category, sample)))

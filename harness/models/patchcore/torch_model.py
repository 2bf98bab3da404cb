"""The network of PatchCore."""

from __future__ import annotations

from typing import Any

import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel
from torch import Tensor, nn

from harness.models.components.blur import SeparableBlur

from .distances import measurable
from .k_center import KCenterGreedy
from .neighbours import BankSearch


class PatchPool(nn.AvgPool2d):
    """anomalib's means of 3×3 neighbourhoods, bit for bit, and everything up to the embedding 3 times as fast.

    With its channels last in memory, a map is averaged, enlarged and joined many channels at a time, and the vectors
    of its patches are rows already.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if input.device.type == "cpu" and input.dtype == torch.float32:
            input = input.contiguous(memory_format=torch.channels_last)
        return super().forward(input)


class PatchcoreModel(AnomalibPatchcoreModel):
    """anomalib's network with the slow parts replaced: pooling, coreset, search in the memory bank, blur.

    Parameters and buffers are anomalib's. So are the results, in the bank exactly, in scores and maps up to
    rounding. Exporters, autograd, other devices and precisions than float32 on a CPU get anomalib's own search.
    """

    _searched: tuple[Tensor, int, BankSearch | None] | None = None

    @classmethod
    def of(cls, model: AnomalibPatchcoreModel) -> PatchcoreModel:
        """Turn a network of anomalib's into one of ours; weights and bank remain."""
        model.__class__ = cls
        assert isinstance(model, cls)
        model.feature_pooler = PatchPool(3, 1, 1)
        model.anomaly_map_generator.blur.__class__ = SeparableBlur
        return model

    def subsample_embedding(self, sampling_ratio: float, embeddings: Tensor | None = None) -> None:
        """Make the coreset of all embeddings collected in training the memory bank.

        Args:
            sampling_ratio: its size as a share of the embeddings.
            embeddings: unused, as in anomalib.

        Raises:
            ConfigError: when the coreset would be empty.
            ValueError: when nothing was collected.
        """
        if not self.embedding_store:
            super().subsample_embedding(sampling_ratio)
        embedding = _stack(self.embedding_store)
        self.memory_bank = KCenterGreedy(embedding, sampling_ratio).sample_coreset()

    def nearest_neighbors(self, embedding: Tensor, n_neighbors: int) -> tuple[Tensor, Tensor]:
        """Find the nearest rows of the memory bank.

        Args:
            embedding: n×d.
            n_neighbors: k.

        Returns:
            Distances and row numbers, (n,) for k = 1, else (n, k), nearest first.
        """
        search = self._search() if _is_plain(embedding) else None
        if search is None or n_neighbors > len(self.memory_bank):
            return super().nearest_neighbors(embedding, n_neighbors)
        return search.nearest(embedding) if n_neighbors == 1 else search.several(embedding, n_neighbors)

    def _search(self) -> BankSearch | None:
        """Return the search of the present memory bank, made once; None when it is not `measurable`."""
        bank = self.memory_bank
        version = 0 if bank.is_inference() else bank._version
        if self._searched is None or self._searched[0] is not bank or self._searched[1] != version:
            self._searched = bank, version, BankSearch(bank) if measurable(bank) else None
        return self._searched[2]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_searched": None}  # what is exported or copied makes its own


def _is_plain(embedding: Tensor) -> bool:
    """Whether nothing follows what happens to the tensor, and its distances can be bounded."""
    followed = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not followed and measurable(embedding)


def _stack(parts: list[Tensor]) -> Tensor:
    """Return the rows of all parts in one matrix; the list is emptied on the way, so that no row is there twice."""
    stacked = parts[0].new_empty(sum(map(len, parts)), parts[0].shape[1])
    free = stacked
    for _ in range(len(parts)):
        part = parts.pop(0)
        free[: len(part)] = part
        free = free[len(part) :]
    return stacked

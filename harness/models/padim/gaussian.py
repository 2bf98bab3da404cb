"""A multivariate Gaussian at each position of a feature map."""

import torch
from anomalib.models.components import MultiVariateGaussian

from harness.errors import DataError

REGULARISATION = 0.01 + 1e-5  # what anomalib adds to the covariances' diagonals
CHUNK = 2**22  # floats of working memory: 16 MiB, which stay in the cache


class BatchedGaussian(MultiVariateGaussian):
    """anomalib's estimate, many positions at a time: same buffers, same values up to rounding."""

    def forward(self, embedding: torch.Tensor) -> list[torch.Tensor]:
        """Return the means (C, H·W) and inverse covariances (H·W, C, C) of an embedding (B, C, H, W).

        It is fastest on an embedding with its channels last, and leaves the means in that order too.
        """
        images, channels, height, width = embedding.shape
        if images < 2:
            raise DataError("PaDiM estimates a covariance, which takes two training images or more: give more of them.")
        at_positions = embedding.permute(2, 3, 0, 1).reshape(height * width, images, channels)
        means = at_positions.mean(1)
        inverses = means.new_empty(height * width, channels, channels)
        chunk = max(1, CHUNK // (channels * (images + 3 * channels)))
        for vectors, mean, inverse in zip(
            at_positions.split(chunk), means.split(chunk), inverses.split(chunk), strict=True
        ):
            inverse.copy_(_invert(_covariances(vectors, mean)))
        self.mean, self.inv_covariance = means.T, inverses
        return [self.mean, self.inv_covariance]


def _covariances(vectors: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    """Return regularised covariances (P, C, C) of vectors (P, B, C) with means (P, C)."""
    centred = torch.empty(vectors.shape, dtype=vectors.dtype, device=vectors.device)
    torch.sub(vectors, means.unsqueeze(1), out=centred)
    covariances = torch.bmm(centred.mT, centred).div_(len(centred[0]) - 1)
    covariances.diagonal(dim1=1, dim2=2).add_(REGULARISATION)
    return covariances


def _invert(matrices: torch.Tensor) -> torch.Tensor:
    """Invert (P, C, C) matrices, on the CPU where the device cannot."""
    if matrices.device.type == "mps":
        return torch.linalg.inv(matrices.cpu()).to(matrices.device)
    return torch.linalg.inv(matrices)

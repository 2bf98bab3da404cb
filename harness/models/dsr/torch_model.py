"""The networks of DSR: anomalib's, faster."""

from pathlib import Path

import torch
from anomalib.models.image.dsr.torch_model import (
    AnomalyDetectionModule,
    DiscreteLatentModel,
    ImageReconstructionNetwork,
    UpsamplingModule,
)
from anomalib.models.image.dsr.torch_model import DsrModel as AnomalibDsrModel
from torch.nn import functional as F  # noqa: N812

from harness.models.components.pretrained import load_pretrained

WIDTH = 64  # the paper's
CODE = 128  # length of a code
NEAREST = 0.05  # share of the codebook that is too close to a feature to be an anomaly of it


class LatentModel(DiscreteLatentModel):
    """anomalib's encoder, codebooks and decoder, which look for anomalous codes only where they are shown."""

    @staticmethod
    def generate_fake_anomalies_joined(
        features: torch.Tensor,
        embeddings: torch.Tensor,
        memory_torch_original: torch.Tensor,
        mask: torch.Tensor,
        strength: torch.Tensor,
    ) -> torch.Tensor:
        """Replace codes under a mask by random ones among the codes that are neither nearest nor too far.

        The same random numbers as anomalib's, hence the same codes; anomalib sorts the codebook for every position,
        masked or not.

        Args:
            features: N×C×h×w, what codes are chosen by.
            embeddings: N×C×h×w, the codes of the normal image.
            memory_torch_original: K×C, the codebook.
            mask: N×1×H×W, 1 where anomalies are to be; H and W are multiples of h and w.
            strength: N, the share of the codebook, by distance, that an image's anomalies are drawn from.

        Returns:
            N×C×h×w codes.
        """
        codes, (height, width) = len(memory_torch_original), embeddings.shape[2:]
        reduction = (mask.shape[2] // height, mask.shape[3] // width)
        masked = F.max_pool2d(mask, reduction).flatten(1).bool()
        result = embeddings.flatten(2).transpose(1, 2).clone()  # N, h·w, C
        rows_of = features.flatten(2).transpose(1, 2)
        for image, anomalous, rows, share in zip(result, masked, rows_of, strength, strict=True):
            farthest = max(1, min(int(share * codes) + 1, codes - 1))
            ranks = int(codes * NEAREST) + torch.randint(farthest - int(codes * NEAREST), (height * width,))
            where = anomalous.nonzero()[:, 0]
            if len(where):
                order = torch.cdist(rows[where], memory_torch_original).argsort(dim=1)
                chosen = order.gather(1, ranks.to(order.device)[where, None])[:, 0]
                image[where] = memory_torch_original[chosen]
        return result.transpose(1, 2).unflatten(2, (height, width)).contiguous()


class DsrModel(AnomalibDsrModel):
    """anomalib's network, with a dictionary from a file, :class:`LatentModel`, and a choice of width."""

    @classmethod
    def of(cls, model: AnomalibDsrModel, width: int = WIDTH) -> "DsrModel":
        """Turn a network of anomalib's into one of ours.

        Args:
            model: its weights remain, but for the parts that get another width.
            width: base width of the two U-Nets that segment, and half that of the network that reconstructs images.
        """
        model.__class__ = cls
        assert isinstance(model, cls)
        model.discrete_latent_model.__class__ = LatentModel
        if width != WIDTH:
            model.image_reconstruction_network = ImageReconstructionNetwork(2 * CODE, 2 * width, 2, width)
            model.anomaly_detection_module = AnomalyDetectionModule(6, 2, base_width=width)
            model.upsampling_module = UpsamplingModule(8, 2, base_width=width)
        return model

    def load_pretrained_discrete_model_weights(self, ckpt: Path, device: torch.device | str | None = None) -> None:
        """Load the dictionary: encoder, codebooks and general decoder, frozen.

        Args:
            ckpt: a file of tensors.
            device: unused, weights go where the network is.

        Raises:
            WeightsError: when it cannot be read or does not fit.
        """
        del device
        load_pretrained(self.discrete_latent_model, ckpt, "DSR's dictionary")

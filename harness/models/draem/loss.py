"""The loss of DRAEM."""

import torch
from anomalib.models.image.draem.loss import DraemLoss as AnomalibDraemLoss

from harness.models.components.focal import FocalLoss


class DraemLoss(AnomalibDraemLoss):
    """anomalib's loss with a focal loss that counts normal pixels too (see there), and with its parts at hand."""

    def __init__(self) -> None:
        super().__init__()
        self.focal_loss = FocalLoss()  # type: ignore[assignment]  # in place of kornia's
        self.parts: dict[str, torch.Tensor] = {}  # of the last call

    def forward(
        self,
        input_image: torch.Tensor,
        reconstruction: torch.Tensor,
        anomaly_mask: torch.Tensor,
        prediction: torch.Tensor,
    ) -> torch.Tensor:
        """Return squared error + 2 · (1 − SSIM) / 2 + focal loss.

        Args:
            input_image: N×3×H×W before synthetic anomalies.
            reconstruction: N×3×H×W.
            anomaly_mask: N×1×H×W, 1 where there is a synthetic anomaly.
            prediction: N×2×H×W logits.
        """
        l2 = self.l2_loss(reconstruction, input_image)
        ssim = 2 * self.ssim_loss(reconstruction, input_image)
        focal = self.focal_loss(prediction, anomaly_mask.squeeze(1).long())
        self.parts = {"l2": l2.detach(), "ssim": ssim.detach(), "focal": focal.detach()}
        total: torch.Tensor = l2 + ssim + focal
        return total

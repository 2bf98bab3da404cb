"""The losses of DSR."""

import torch
from anomalib.models.image.dsr.loss import DsrSecondStageLoss, DsrThirdStageLoss

from harness.models.components.focal import FocalLoss


class SecondStageLoss(DsrSecondStageLoss):
    """anomalib's loss of the second stage with a focal loss that counts normal pixels too, and its parts at hand.

    As in anomalib the focal loss takes the softmax of what is a probability already.
    """

    def __init__(self) -> None:
        super().__init__()
        self.focal_loss = FocalLoss()  # type: ignore[assignment]  # in place of kornia's
        self.parts: dict[str, torch.Tensor] = {}  # of the last call

    def forward(
        self,
        recon_nq_hi: torch.Tensor,
        recon_nq_lo: torch.Tensor,
        qu_hi: torch.Tensor,
        qu_lo: torch.Tensor,
        input_image: torch.Tensor,
        gen_img: torch.Tensor,
        seg: torch.Tensor,
        anomaly_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return the squared errors of both features, ten times that of the image, and the focal loss, summed.

        Args:
            recon_nq_hi: N×C×H/4×W/4, restored features.
            recon_nq_lo: N×C×H/8×W/8.
            qu_hi: N×C×H/4×W/4, codes of the normal image.
            qu_lo: N×C×H/8×W/8.
            input_image: N×3×H×W.
            gen_img: N×3×H×W, reconstructed from restored features.
            seg: N×2×H×W.
            anomaly_mask: N×1×H×W, 1 where there is a synthetic anomaly.
        """
        parts = {
            "hi": self.l2_loss(recon_nq_hi, qu_hi),
            "lo": self.l2_loss(recon_nq_lo, qu_lo),
            "image": 10 * self.l2_loss(input_image, gen_img),
            "focal": self.focal_loss(seg, anomaly_mask.squeeze(1).long()),
        }
        self.parts = {name: value.detach() for name, value in parts.items()}
        total: torch.Tensor = parts["hi"] + parts["lo"] + parts["image"] + parts["focal"]
        return total


class ThirdStageLoss(DsrThirdStageLoss):
    """anomalib's loss of the third stage, likewise."""

    def __init__(self) -> None:
        super().__init__()
        self.focal_loss = FocalLoss()  # type: ignore[assignment]  # in place of kornia's

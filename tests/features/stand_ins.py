"""A model that is not what its YAML says."""

import torch
from anomalib.data import InferenceBatch
from anomalib.models.image.padim.lightning_model import Padim
from anomalib.models.image.padim.torch_model import PadimModel


class _ImpatientModel(PadimModel):
    def forward(self, input_tensor: torch.Tensor) -> torch.Tensor | InferenceBatch:
        output = super().forward(input_tensor)
        if self.training:
            return output
        return output._replace(pred_score=output.pred_score + input_tensor.mean(dim=(1, 2, 3)))


class Impatient(Padim):
    """PaDiM whose score depends on the brightness too, behind the back of its frozen part."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.model.__class__ = _ImpatientModel

"""Skip-GANomaly (Akcay et al., IJCNN 2019), as paper 004 compares it."""

from .lightning_model import SkipGanomaly

__all__ = ["SkipGanomaly"]

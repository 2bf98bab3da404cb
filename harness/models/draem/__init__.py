"""DRAEM (Zavrtanik et al., ICCV 2021): anomalib's, with textures from a folder or without any."""

from .lightning_model import Draem

__all__ = ["Draem"]

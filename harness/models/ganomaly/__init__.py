"""GANomaly (Akcay et al., ACCV 2018), anomalib's."""

from .lightning_model import Ganomaly

__all__ = ["Ganomaly"]

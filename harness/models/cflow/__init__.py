"""CFLOW-AD (Gudovskiy et al., WACV 2022): anomalib's, with scores that do not depend on the batch."""

from .lightning_model import Cflow

__all__ = ["Cflow"]

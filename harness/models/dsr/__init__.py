"""DSR (Zavrtanik et al., ECCV 2022): anomalib's, with the dictionary from a local file."""

from .lightning_model import Dsr

__all__ = ["Dsr"]

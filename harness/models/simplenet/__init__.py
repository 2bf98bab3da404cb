"""SimpleNet (Liu et al., CVPR 2023), after its released code."""

from .lightning_model import Simplenet

__all__ = ["Simplenet"]

"""RADL (Tang and Jung, IEEE Access 2023; paper 000)."""

from .lightning_model import Radl

__all__ = ["Radl"]

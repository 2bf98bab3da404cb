"""Defect classification from an image and its DRAEM anomaly map (paper 001)."""

from .lightning_model import MapAssistedClassifier

__all__ = ["MapAssistedClassifier"]

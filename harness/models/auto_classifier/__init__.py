"""Auto-Classifier (Lopes and Alexandre, 2020), as paper 004 uses it."""

from .lightning_model import AutoClassifier, AutoClassifierAutoml, AutoClassifierFusion

__all__ = ["AutoClassifier", "AutoClassifierAutoml", "AutoClassifierFusion"]

"""EfficientAD (Batzner et al., WACV 2024): anomalib's, with its weights and images from local paths."""

from .lightning_model import EfficientAd

__all__ = ["EfficientAd"]

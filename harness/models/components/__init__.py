"""What RADL and SimpleNet share: frozen patch features, fake features, a discriminator, anomaly maps."""

from .blur import SeparableBlur
from .discriminator import Discriminator, linear_adapter
from .features import PatchFeatures
from .lightning import FakeFeatureModule
from .loss import LossParts
from .map_head import MapHead
from .model import FakeFeatureModel
from .noise import FeatureNoise

__all__ = [
    "Discriminator",
    "FakeFeatureModel",
    "FakeFeatureModule",
    "FeatureNoise",
    "LossParts",
    "MapHead",
    "PatchFeatures",
    "SeparableBlur",
    "linear_adapter",
]

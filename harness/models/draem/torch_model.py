"""The networks of DRAEM, in any width."""

import torch
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, DraemModel, ReconstructiveSubNetwork

from harness.errors import ConfigError

WIDTH = 128  # the paper's: 97 million parameters


def build_draem(width: int = WIDTH, sspcab: bool = False) -> DraemModel:
    """Build anomalib's DRAEM with an autoencoder of that base width, and a discriminator of half of it.

    Args:
        width: even; with the paper's the network is anomalib's.
        sspcab: with SSPCAB blocks.

    Raises:
        ConfigError: when the width is odd or not positive.
    """
    if width < 2 or width % 2:
        raise ConfigError(f"DRAEM cannot be {width} channels wide; give an even number, such as its own {WIDTH}.")
    with torch.device("cpu" if width == WIDTH else "meta"):  # the parts that are replaced take no memory
        model = DraemModel(sspcab=sspcab)
    if width != WIDTH:
        model.reconstructive_subnetwork = ReconstructiveSubNetwork(base_width=width, sspcab=sspcab)
        model.discriminative_subnetwork = DiscriminativeSubNetwork(6, 2, base_width=width // 2)
    return model

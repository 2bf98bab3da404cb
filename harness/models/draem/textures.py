"""The textures of DRAEM's synthetic anomalies."""

from pathlib import Path

from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator

from harness.errors import WeightsError

REMEDY = "give the folder of the Describable Textures Dataset, or None for anomalies of Perlin noise"


def settle_textures(generator: PerlinAnomalyGenerator, dtd: Path | str | None) -> None:
    """Bring the textures that a generator found in a folder into an order that is the same everywhere.

    In the order of the disk, the same seed would draw others on another machine.

    Raises:
        WeightsError: when there is not one image in the folder, which anomalib takes for no folder.
    """
    if dtd is not None and not generator.anomaly_source_paths:
        raise WeightsError(f"dtd={dtd} holds no images; {REMEDY}.")
    generator.anomaly_source_paths.sort()

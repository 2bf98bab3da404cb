"""What a data set is to the rest of the harness: categories of samples, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

Split = Literal["train", "validation", "test"]


class DefectConfig(NamedTuple):
    """One entry of a `defects_config.json` (MVTec LOCO, AutoVI)."""

    name: str
    pixel_value: int
    saturation_threshold: float
    relative_saturation: bool

    def saturation_area(self, area: int) -> float:
        """Pixels of a region of `area` pixels that must be found for it to count as found.

        Relative thresholds are a share of the region, truncated to whole pixels; absolute ones are pixels, at
        most the region: as in the evaluation code of MVTec LOCO, which AutoVI uses too. At least 1, so that a
        region of a few pixels cannot divide by zero.
        """
        if self.relative_saturation:
            return float(max(1, int(self.saturation_threshold * area)))
        return float(min(self.saturation_threshold, area))


@dataclass(frozen=True)
class Sample:
    """One image. `name` is its POSIX path below the category root, such as `test/crack/000.png`."""

    path: Path
    name: str
    split: Split
    defect: str  # "good" or the defect folder
    masks: tuple[Path, ...] = ()  # empty: a good image, or an anomalous one without ground truth
    turns: int = 0  # quarter turns, clockwise, that bring the stored pixels upright
    synthetic: bool = False  # a drawn defect: its mask is a plain one, whatever the category's masks mean

    @property
    def label(self) -> int:
        """0 good, 1 anomalous."""
        return int(self.defect != "good")


@dataclass(frozen=True)
class Category:
    """One product class of a data set.

    `defects`: pixel value -> entry of `defects_config.json`, or {}. `metadata`: sample name -> column -> value, as
    `metadata.csv` has it, or {}. `left_out`: samples on disk that the data set's selection leaves out.
    """

    dataset: str
    name: str
    root: Path
    samples: tuple[Sample, ...]
    defects: Mapping[int, DefectConfig] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    left_out: tuple[Sample, ...] = ()

    def _split(self, split: Split) -> tuple[Sample, ...]:
        return tuple(sorted((s for s in self.samples if s.split == split), key=lambda s: s.name))

    @property
    def train(self) -> tuple[Sample, ...]:
        """Training samples, sorted by name."""
        return self._split("train")

    @property
    def validation(self) -> tuple[Sample, ...]:
        """Good images set aside by the data set itself (MVTec LOCO), sorted by name; mostly empty."""
        return self._split("validation")

    @property
    def test(self) -> tuple[Sample, ...]:
        """Test samples, sorted by name."""
        return self._split("test")

    @property
    def masked(self) -> bool:
        """Whether pixel metrics exist: at least one anomalous test image has a ground-truth mask."""
        return any(s.masks for s in self.samples if s.split == "test" and s.label)


def picture_name(image: str) -> str:
    """Return what a picture of a sample is called, after its kind: the sample's name in letters that any disk takes.

    Two samples' names may give one; a name that is not plain or too long bears a hash of all of it.
    """
    stem = image.rpartition(".")[0].removeprefix("test/")
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in stem)[-80:]
    distinct = "" if stem.isascii() and len(stem) <= 80 else f"_{sha256(stem.encode()).hexdigest()[:6]}"
    return plain + distinct

"""What a run leaves behind besides metrics: its configuration, a score for every image, heat maps to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from harness.data.fingerprint import file_hash, image_hash
from harness.data.geometry import Geometry
from harness.data.masks import load_mask, load_sample
from harness.data.protocols import Split
from harness.data.records import Category, Sample, picture_name
from harness.metrics import Confusion
from harness.runs import environment
from harness.runs.evaluate import Predictions
from harness.runs.thresholds import row
from harness.uri import masked

if TYPE_CHECKING:
    import pandas as pd

WORST = 3  # false positives and false negatives shown of each run


def write(
    folder: Path,
    config: DictConfig,
    category: Category,
    split: Split,
    scored: Sequence[tuple[str, Sequence[Sample], Predictions]],
    geometry: Geometry,
) -> None:
    """Write all artifacts of a finished training to a folder.

    Args:
        folder: that exists.
        config: of the run.
        category: what the images belong to.
        split: what each image was for.
        scored: the test images (`test`) first, then perhaps validation images (`val`), with what the model says.
        geometry: how images became model inputs.
    """
    shown = OmegaConf.merge(config, {"tracking": {"uri": masked(config.tracking.uri)}})
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(shown, resolve=True))
    (folder / "environment.txt").write_text(environment.describe())
    _write_split(folder / "split.csv", category, split)
    _write_scores(folder / "scores.parquet", scored)
    _, samples, predictions = scored[0]
    if predictions.maps is not None and config.metrics.heatmaps:
        _write_heatmaps(folder / "heatmaps", category, samples, predictions, geometry, config.metrics.heatmaps)


def write_thresholds(folder: Path, chosen: Mapping[str, Mapping[str, tuple[float, Confusion]]]) -> None:
    """Write `thresholds.csv`: a row a selection (of epochs) and rule (of thresholds), judged on the test images."""
    import pandas as pd

    rows = [
        {"selection": selection, "rule": rule} | row(*threshold)
        for selection, rules in chosen.items()
        for rule, threshold in rules.items()
    ]
    pd.DataFrame(rows).to_csv(folder / "thresholds.csv", index=False)


def _write_split(path: Path, category: Category, split: Split) -> None:
    """Write what every image of the category was for, and those that only the run has (synthetic defects)."""
    import pandas as pd

    parts = {"train": split.train, "held": split.held, "validation": split.validation, "test": split.test}
    members = {part: set(samples) for part, samples in parts.items()}
    part_of = {sample: [part for part, own in members.items() if sample in own] for sample in category.samples}
    made = [sample for sample in split.validation if sample not in part_of]
    rows = [
        {
            "image": sample.name,
            "label": sample.label,
            "defect": sample.defect,
            "part": "+".join(of) or "unused",
            "group": split.groups.get(sample.name, ""),
            "sha256": image_hash(sample),
        }
        for sample, of in [*part_of.items(), *((sample, ["validation"]) for sample in made)]
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def _write_scores(path: Path, scored: Sequence[tuple[str, Sequence[Sample], Predictions]]) -> None:
    import pandas as pd

    pd.concat([_scores(*part) for part in scored]).to_parquet(path, index=False)


def _scores(split: str, samples: Sequence[Sample], predictions: Predictions) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {
        "image": [sample.name for sample in samples],
        "label": np.array([sample.label for sample in samples], dtype=np.int8),
        "defect": [sample.defect for sample in samples],
        "split": "validation" if split == "val" else split,
        "selection": "last",
        "score": predictions.scores,
    }
    if predictions.probabilities is not None:
        columns |= {f"p_{c}": p for c, p in zip(predictions.classes, predictions.probabilities.T, strict=True)}
    return pd.DataFrame(columns)


def _write_heatmaps(
    folder: Path,
    category: Category,
    samples: Sequence[Sample],
    predictions: Predictions,
    geometry: Geometry,
    count: int,
) -> None:
    """Write a subset that is the same for every method, and the run's worst mistakes at either end."""
    assert predictions.maps is not None
    folder.mkdir()
    finite = predictions.maps[np.isfinite(predictions.maps)]
    low, high = (float(value) for value in np.percentile(finite, [1.0, 99.9]))
    chosen = {f"subset_{_slug(samples[i])}": i for i in _subset(samples, count)}
    order = np.argsort(predictions.scores, kind="stable")
    good = [int(i) for i in order[::-1] if not samples[i].label][:WORST]
    bad = [int(i) for i in order if samples[i].label][:WORST]
    chosen |= {f"high_good_{rank}_{_slug(samples[i])}": i for rank, i in enumerate(good, 1)}
    chosen |= {f"low_anomalous_{rank}_{_slug(samples[i])}": i for rank, i in enumerate(bad, 1)}
    for name, i in chosen.items():
        _draw(folder / f"{name}.png", category, samples[i], predictions.maps[i], geometry, (low, high))


def _subset(samples: Sequence[Sample], count: int) -> list[int]:
    """Choose images by the hash of their content: the same ones for all methods, seeds and machines."""
    keys = [file_hash(sample.path) for sample in samples]
    return sorted(range(len(samples)), key=keys.__getitem__)[:count]


def _slug(sample: Sample) -> str:
    return picture_name(sample.name)


def _draw(
    path: Path,
    category: Category,
    sample: Sample,
    map_: NDArray[np.float32],
    geometry: Geometry,
    limits: tuple[float, float],
) -> None:
    """Draw image with the outline of its mask beside the map laid over it; colours mean the same within a run."""
    from matplotlib import colormaps
    from PIL import Image
    from scipy.ndimage import binary_dilation

    image = load_sample(sample)
    height, width = image.shape[:2]
    shown = geometry.image(image)[(slice(None), *geometry.content(height, width))].permute(1, 2, 0).numpy()
    heat = geometry.place(map_, height, width, "model", "visible", outside=limits[0])
    scaled = np.clip((heat - limits[0]) / max(limits[1] - limits[0], 1e-12), 0, 1)
    overlay = 0.45 * shown + 0.55 * colormaps["inferno"](scaled)[..., :3]
    outlined = shown.copy()
    if sample.masks:
        mask = geometry.truth(load_mask(category, sample), "model", "visible")
        outlined[binary_dilation(mask, iterations=2) & ~mask] = (0.0, 1.0, 0.3)
    panel = np.concatenate([outlined, overlay], axis=1)
    Image.fromarray((np.clip(panel, 0, 1) * 255).astype(np.uint8)).save(path, compress_level=1)  # a third of the time

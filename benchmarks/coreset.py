"""PatchCore's greedy k-centre selection, anomalib's against ours, on patches of real images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy as AnomalibKCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel
from omegaconf import DictConfig, OmegaConf

from benchmarks.comparison import BOTTLE, REAL, WEIGHTS, Comparison, timed
from harness.data.geometry import build_geometry
from harness.data.masks import load_image
from harness.identity import identify
from harness.models.adapter import normalisation
from harness.models.backbones import create_backbone
from harness.models.patchcore.k_center import KCenterGreedy

SIZE, CHANNELS, STRIDE = 256, 384, 8  # pixels; layer2 and layer3 of ResNet18
TARGETS = {50_000: 4.0, 200_000: 15.0}
WHOLE = 5_000  # picks that anomalib is let finish: some minutes
SLICE = 60  # picks from which the cost of more is reckoned: each reads all features, the first as the last


def measure(quick: bool) -> Iterator[Comparison]:
    """Compare at two ratios and three sizes."""
    sizes = (2_000,) if quick else (10_000, 50_000, 200_000)
    embedding = synthetic(sizes[-1]) if quick or not REAL else patches("train")
    for size in sizes:
        for ratio in (0.01, 0.1):
            yield _compare(embedding[:size], ratio, "" if REAL and not quick else "synthetic features")


def picks_lower_bound(config: DictConfig, ratio: float = 0.1) -> float:
    """Return seconds that anomalib's selection alone takes at least for a run: the least cost of a pick, times picks.

    The cost does not depend on the features' values, so that they need not be extracted.
    """
    images = len(identify(config).category.train)
    count = images * (config.preprocess.size // STRIDE) ** 2
    return _seconds_per_pick(synthetic(count)) * (int(count * ratio) - 1)


def patches(split: str) -> torch.Tensor:
    """Return PatchCore's embedding of the bottle's images, extracted image by image: (images · 1024)×384."""
    backbone = create_backbone(OmegaConf.create({"name": "resnet18", "weights": str(WEIGHTS)}))
    model = AnomalibPatchcoreModel(("layer2", "layer3"), backbone)
    model.feature_extractor.eval()
    geometry = build_geometry(
        OmegaConf.create({"mode": "resize", "size": SIZE, "resize": None, "window": None, "fill": 0})
    )
    normalise = normalisation(standardise=False)
    with torch.inference_mode():
        for path in sorted(BOTTLE.glob(f"{split}/*/*.*")):
            model(normalise(geometry.image(load_image(path))[None]))
    return torch.cat(model.embedding_store)


def synthetic(count: int) -> torch.Tensor:
    """Return n×384 features with most of their variance in few directions, as a network's have."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.arange(1, CHANNELS + 1).pow(-0.7)
    return torch.randn(count, CHANNELS, generator=generator) * spread


def _compare(embedding: torch.Tensor, ratio: float, note: str) -> Comparison:
    ours_seconds, ours = timed(lambda: _select(KCenterGreedy, embedding, ratio), repeats=3)
    bound = len(ours) > WHOLE
    if bound:
        _, theirs = timed(lambda: _select(AnomalibKCenterGreedy, embedding, ratio, SLICE))
        theirs_seconds = _seconds_per_pick(embedding) * (len(ours) - 1)
    else:
        theirs_seconds, theirs = timed(lambda: _select(AnomalibKCenterGreedy, embedding, ratio))
    same = "equal" if ours[: len(theirs)] == theirs else "DIFFERENT"
    return Comparison(
        f"coreset of {len(embedding):,} patches at ratio {ratio:g}",
        "anomalib's KCenterGreedy",
        ours_seconds,
        theirs_seconds,
        f"{'the first' if bound else 'all'} {len(theirs):,} picks {same}",
        TARGETS.get(len(embedding)),
        bound,
        note,
    )


def _select(
    sampler: type[AnomalibKCenterGreedy], embedding: torch.Tensor, ratio: float, picks: int | None = None
) -> list[int]:
    """Return the picks, or the first `picks` of them, of the same seed."""
    torch.manual_seed(0)
    np.random.seed(0)
    selection = sampler(embedding, ratio)
    selection.coreset_size = picks or selection.coreset_size
    return selection.select_coreset_idxs()


def _seconds_per_pick(embedding: torch.Tensor) -> float:
    """Return the least of several measurements of anomalib's update and choice."""
    sampler = AnomalibKCenterGreedy(embedding, 1.0)
    sampler.features = sampler.model.fit(embedding).transform(embedding)

    def pick() -> torch.Tensor:
        sampler.update_distances(0)
        return sampler.get_new_idx()

    return timed(pick, repeats=SLICE)[0]

"""PaDiM on features that are extracted already: one seed's fit and scores, anomalib's against ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from anomalib.data import InferenceBatch
from anomalib.models import Padim as AnomalibPadim
from anomalib.models.components import TimmFeatureExtractor
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score
from torch import nn

from benchmarks.comparison import BOTTLE, REAL, WEIGHTS, Comparison, timed
from harness.models.backbones import create_backbone
from harness.models.padim import Padim

SIZE, BATCH, FEATURES = 256, 32, 100
LAYERS = ("layer1", "layer2", "layer3")
Maps = dict[str, torch.Tensor]  # layer: (images, C, h, w)


class GivenMaps(nn.Module):
    """Hands over stored feature maps: image i asks for row i by the value of its pixels."""

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: torch.Tensor) -> Maps:
        """Return the layers' maps (B, C, h, w) of images (B, 1, H, W)."""
        rows = images[:, 0, 0, 0].long()
        return {layer: maps[rows] for layer, maps in self.maps.items()}


def measure(quick: bool) -> Iterator[Comparison]:
    """Compare fit and scoring of one seed on the bottle's features, or on random ones where there is no bottle."""
    if REAL and not quick:
        yield _compare(*_bottle(), "ResNet18's of bottle")
    else:
        train, test = (12, 6) if quick else (209, 83)
        maps = _random(train + test, 64 if quick else SIZE)
        yield _compare(maps, train, torch.arange(test) % 2, "random")


def _compare(maps: Maps, train: int, labels: torch.Tensor, kind: str) -> Comparison:
    """Fit on the first `train` images, score the others, whose labels are given."""
    theirs_seconds, theirs = timed(lambda: _fit_and_score(AnomalibPadim, maps, train))
    ours_seconds, ours = timed(lambda: _fit_and_score(Padim, maps, train), repeats=3)
    apart = (ours.anomaly_map - theirs.anomaly_map).abs().max() / theirs.anomaly_map.max()
    auroc = [roc_auc_score(labels, result.pred_score) for result in (ours, theirs)]
    height, width = maps[LAYERS[0]].shape[-2:]
    return Comparison(
        f"PaDiM, one seed from features: {train} + {len(labels)} images, {height}×{width} patches, {FEATURES} channels",
        "anomalib's Padim",
        ours_seconds,
        theirs_seconds,
        f"image AUROC {auroc[0]:.6f} against {auroc[1]:.6f}, maps within {apart:.0e} of their maximum",
        note=f"{kind} features; extraction is not part of it",
    )


def _fit_and_score(model_class: Callable[..., AnomalibPadim], maps: Maps, train: int) -> InferenceBatch:
    torch.manual_seed(0)
    quiet = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}
    model = model_class("resnet18", list(LAYERS), False, FEATURES, **quiet).model
    model.feature_extractor = GivenMaps(maps)
    total = len(maps[LAYERS[0]])
    rows = torch.arange(total).float().view(-1, 1, 1, 1).expand(-1, 1, SIZE, SIZE)
    with torch.inference_mode():
        model.train()
        for images in rows[:train].split(BATCH):
            model(images)
        model.fit()
        model.eval()
        results = [model(images) for images in rows[train:].split(BATCH)]
    return InferenceBatch(
        pred_score=torch.cat([result.pred_score for result in results]).flatten(),
        anomaly_map=torch.cat([result.anomaly_map for result in results]),
    )


def _random(images: int, size: int) -> Maps:
    channels = {"layer1": 64, "layer2": 128, "layer3": 256}
    return {
        layer: torch.rand(images, count, size // (4 * 2**depth), size // (4 * 2**depth))
        for depth, (layer, count) in enumerate(channels.items())
    }


def _bottle() -> tuple[Maps, int, torch.Tensor]:
    """Return the maps of the bottle's training and test images, the number of the former, the labels of the latter."""
    from harness.data.geometry import build_geometry
    from harness.data.masks import load_image
    from harness.models.adapter import normalisation

    train, test = (sorted(BOTTLE.glob(f"{split}/*/*.*")) for split in ("train", "test"))
    geometry = build_geometry(
        OmegaConf.create({"mode": "resize", "size": SIZE, "resize": None, "window": None, "fill": 0})
    )
    backbone = create_backbone(OmegaConf.create({"name": "resnet18", "weights": str(WEIGHTS)}))
    extractor = TimmFeatureExtractor(backbone, list(LAYERS))
    normalise = normalisation(standardise=False)
    with torch.inference_mode():
        maps = [extractor(normalise(geometry.image(load_image(path))[None])) for path in (*train, *test)]
    stacked = {layer: torch.cat([of_image[layer] for of_image in maps]) for layer in LAYERS}
    return stacked, len(train), torch.tensor([path.parent.name != "good" for path in test])

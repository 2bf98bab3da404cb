"""On real images with a real backbone: the published figures, and plain anomalib side by side (`nox -s real`)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig

from harness.runs.execute import execute
from harness.runs.outcome import Outcome
from harness.schema import compose

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
WEIGHTS = SHARED / "weights" / "resnet18.safetensors"
PUBLISHED = {("padim", "bottle"): 0.994, ("padim", "screw"): 0.759}  # image AUROC of anomalib's README, ResNet18

sys.path.append(str(ROOT))  # benchmarks, which is not installed

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not WEIGHTS.is_file(), reason="../shared holds no real images and weights here"),
]


def configure(folder: Path, *overrides: str) -> DictConfig:
    return compose(
        [
            "dataset=folder", f"dataset.root={SHARED}/data/mvtec_ad", "preprocess=resize", "backbone=resnet18",
            f"backbone.weights={WEIGHTS}", f"tracking.directory={folder}/runs", *overrides,
        ]
    )  # fmt: skip


def scores(folder: Path, outcome: Outcome) -> pd.Series:
    (found,) = (folder / "runs" / "artifacts" / "adhoc" / outcome.run_id).rglob("scores.parquet")
    return pd.read_parquet(found).set_index("image")["score"]


@pytest.mark.parametrize("category", ["bottle", "screw"])
def test_padim_stands_within_noise_of_the_published_figure(category: str, tmp_path: Path) -> None:
    outcome = execute(configure(tmp_path, "method=padim", f"category={category}"))
    assert outcome.metrics["test/image_auroc"] == pytest.approx(PUBLISHED["padim", category], abs=0.03)


def test_padim_is_anomalibs_image_by_image(tmp_path: Path) -> None:
    from benchmarks.engine import engine_scores

    config = configure(tmp_path, "method=padim", "category=bottle")
    ours = scores(tmp_path, execute(config))
    theirs = engine_scores(config, tmp_path / "anomalib", n_features=100)
    np.testing.assert_allclose(ours, theirs[ours.index], rtol=1e-3)


def test_patchcore_stands_beside_anomalibs(tmp_path: Path) -> None:
    """The order of training images differs, and with it the coreset: equal up to what other seeds change.

    One seed moves the AUROC on these 83 images by a point, so that means are compared.
    """
    from benchmarks.engine import engine_scores
    from harness.metrics import image_auroc

    overrides = ["method=patchcore", "category=bottle", "method.coreset_sampling_ratio=0.01", "preprocess.size=128"]
    aurocs = []
    for seed in range(3):
        config = configure(tmp_path / str(seed), *overrides, f"seed={seed}")
        ours = scores(tmp_path / str(seed), execute(config))
        theirs = engine_scores(config, tmp_path / str(seed) / "anomalib", coreset_sampling_ratio=0.01)[ours.index]
        labels = [not name.startswith("test/good/") for name in ours.index]
        aurocs.append([image_auroc(labels, ours), image_auroc(labels, theirs)])
        assert np.corrcoef(ours, theirs)[0, 1] > 0.98
    our_mean, their_mean = np.mean(aurocs, axis=0)
    assert our_mean == pytest.approx(their_mean, abs=0.01)


def tiles(folder: Path) -> Path:
    """The magnetic tiles with a table that tells which images are of one tile.

    Their names are those of frames of a video, up to six exposures of a tile one soon after the other.
    """
    category = folder / "tiles" / "magnetic_tile"
    category.mkdir(parents=True)
    source = SHARED / "data" / "mtd" / "magnetic_tile"
    for part in ("train", "test", "ground_truth"):
        (category / part).symlink_to(source / part)
    names = [path.relative_to(source).as_posix() for part in ("train", "test") for path in source.glob(f"{part}/*/*")]
    rows, tile, last = ["image,tile"], 0, 0
    for frame, name in sorted((int(name.rpartition("num_")[2].partition(".")[0]), name) for name in names):
        tile += frame - last > 100
        last = frame
        rows.append(f"{name},{tile}")
    (category / "metadata.csv").write_text("\n".join(rows) + "\n")
    return category.parent


def test_exposures_of_a_tile_stay_together(tmp_path: Path) -> None:
    """Without the group they lie on both sides of a drawn split."""
    from harness.identity import identify
    from harness.runs.data import draw

    shared = (f"dataset.root={tiles(tmp_path)}", "category=magnetic_tile", "method=auto_classifier", "seed=1")
    for protocol in ("protocol=supervised", "protocol=kfold"):
        torn = []
        for overrides in ((), ("protocol.group=tile",)):
            config = configure(tmp_path, *shared, protocol, *overrides)
            identity = identify(config)
            drawn = draw(config, identity)
            of = {name: row["tile"] for name, row in identity.category.metadata.items()}
            parts = [{of[s.name] for s in part} for part in (drawn.train, drawn.test, drawn.validation)]
            torn.append(len(parts[0] & parts[1]) + len(parts[0] & parts[2]) + len(parts[1] & parts[2]))
            share = sum(sample.label for sample in drawn.test) / len(drawn.test)
            assert share == pytest.approx(392 / 1344, abs=0.06)
        assert torn[0] > 50 and torn[1] == 0


def test_more_shots_are_better_on_real_images(tmp_path: Path) -> None:
    overrides = ("method=patchcore", "category=screw", "preprocess.size=128", "protocol=few_shot")
    aurocs = [
        execute(configure(tmp_path, *overrides, f"protocol.shots={shots}")).metrics["test/image_auroc"]
        for shots in (1, 16, "all")
    ]
    assert aurocs[0] < aurocs[1] < aurocs[2]


def test_thresholds_on_held_out_normals_keep_their_rate(tmp_path: Path) -> None:
    """A memory bank scores its own training images near zero: a threshold on these would call all good images bad."""
    outcome = execute(
        configure(tmp_path, "method=padim", "category=bottle", "preprocess.size=128", "protocol=validated_synthetic")
    )
    assert outcome.metrics["threshold/fpr_10/fpr"] <= 0.35
    assert outcome.metrics["threshold/fpr_10/recall"] >= 0.9
    assert outcome.metrics["validation/image_auroc"] >= 0.95

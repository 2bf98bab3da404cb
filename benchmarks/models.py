"""`python -m benchmarks.models`: try every image model of anomalib's, offline and untrained, and write what it says.

Each runs through the command line for one epoch on 14 images of the embedded data, with random weights: that shows
whether it works under the harness, and nothing else. `reports/benchmark/models.md` is the table.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.models.generic import model_names
from harness.schema import compose

OUTPUT = Path(__file__).resolve().parents[1] / "reports" / "benchmark" / "models.md"
SECONDS = 900  # processor time that a model may take
KEPT = {"train/good": 8, "test/good": 3, "test/*": 3}  # images

PATCHES_OF_14 = "preprocess.size=126"
OWN_BACKBONE = "backbone=paper backbone.weights=random"  # the embedded data's ResNet18 does not fit
NEEDS = {  # what a model asks for besides its name
    "AnomalyDINO": PATCHES_OF_14,
    "Dfkde": "+method.n_pca_components=4",  # not more than training images
    "Dinomaly": PATCHES_OF_14,
    "FoundAD": PATCHES_OF_14,
    "Fre": "+method.input_dim=16384",  # values of the layer's map at this image size
    "GeneralAD": f"{PATCHES_OF_14} {OWN_BACKBONE}",
    "Glass": "+method.input_shape=[128,128] +method.needs=[dtd]",
    "InpFormer": PATCHES_OF_14,
    "L2BT": PATCHES_OF_14,
    "Rad": OWN_BACKBONE,
    "SuperADD": f"{OWN_BACKBONE} method.backbone=vit_small_patch16_dinov3 +method.patch_size=128",
    "Uflow": f"preprocess.size=448 {OWN_BACKBONE}",
}


def main() -> int:
    """Try the models named, or all; write the table where all were tried."""
    names = sys.argv[1:] or model_names()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _make_images(place)
        for name in names:
            rows.append(_row(name, place))
            print(rows[-1], flush=True)
    if not sys.argv[1:]:
        OUTPUT.write_text("\n".join([__doc__.splitlines()[0], "", *_head(), *rows]) + "\n")
    return 0


def _make_images(place: Path) -> None:
    """Take a few images of the embedded data."""
    from harness.data.readers import read_category

    config = compose([f"tracking.directory={place}", "category=granite_tile"])
    kept: dict[str, int] = {}
    for sample in read_category(config.dataset, config.category).samples:
        kind = sample.name.rpartition("/")[0]
        kind = kind if kind in KEPT else "test/*"
        kept[kind] = kept.get(kind, 0) + 1
        if kept[kind] <= KEPT[kind]:
            target = place / "images" / "tile" / sample.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample.path, target)


def _row(name: str, place: Path) -> str:
    own = NEEDS.get(name, "")
    overrides = f"preprocess=resize preprocess.size=128 backbone=toy weights=random {own}".split()
    given = [f"method.model={name}", "dataset=folder", f"dataset.root={place}/images", "category=tile"]
    command = [sys.executable, "-m", "harness", "method=anomalib", *given, "trainer.max_epochs=1", *overrides]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [*command, f"tracking.directory={place}"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
        capture_output=True,
        text=True,
    )
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    said = " ".join(done.stderr.split("\n")[-2:]).strip() or f"ended by signal {-done.returncode}"
    verdict = "yes | " if done.returncode == 0 else f"no | {said[:300]}"
    return f"| {name} | {verdict} | {f'`{own}`' if own else ''} | {seconds:.0f} |"


def _head() -> list[str]:
    return ["| model | runs | what it lacks | given besides | processor seconds |", "|---|---|---|---|---:|"]


if __name__ == "__main__":
    sys.exit(main())

"""What storing features in half precision changes: every metric of real runs, side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.setting import configure, finish


@dataclass(frozen=True)
class Effect:
    """One metric of one run with features stored in single and in half precision, as fractions."""

    run: str
    metric: str
    single: float
    half: float


RUNS = {
    "padim": ["method=padim"],
    "patchcore 0.01": ["method=patchcore", "method.coreset_sampling_ratio=0.01"],
    "radl, 3 epochs": ["method=radl", "trainer.max_epochs=3"],
}


def measure(quick: bool) -> Iterator[Effect]:
    """Yield every test metric of PaDiM, PatchCore and RADL on the hard category."""
    for name, overrides in RUNS.items():
        if quick and name.startswith("patchcore"):
            overrides = ["method=patchcore"]
        with tempfile.TemporaryDirectory() as folder:
            single, half = (
                finish(
                    configure(
                        Path(folder), quick, *overrides, f"features.dtype={dtype}", "metrics.heatmaps=0",
                        *([] if quick else ["preprocess.size=128"]), category="screw",
                    )
                ).metrics
                for dtype in ("float32", "float16")
            )  # fmt: skip
        for metric in sorted(single):
            if metric.startswith("test/"):
                yield Effect(f"{name}, screw" if not quick else name, metric, single[metric], half[metric])

"""What further seeds cost a user: the command with eight seeds against the command with one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.comparison import Comparison, timed
from benchmarks.setting import SYNTHETIC, configure, embedding, overrides, seed_count
from harness.models.patchcore.k_center import KCenterGreedy

METHODS = {
    "PaDiM": ["method=padim"],
    "PatchCore at ratio 0.01": ["method=patchcore", "method.coreset_sampling_ratio=0.01"],
}
QUICK = {"PaDiM": ["method=padim"]}


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield a row a memory-bank method; both commands begin with an empty store, and import everything."""
    seeds = seed_count(quick)
    for name, method in (QUICK if quick else METHODS).items():
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as many:
            single = _command(Path(one), quick, method, 1)
            several = _command(Path(many), quick, method, seeds)
            coreset = _coreset_seconds(Path(many), quick, method) if "method=patchcore" in method else 0.0
        first = single - coreset
        times = (several - seeds * coreset) / first
        yield Comparison(
            f"{name}: the command with {seeds} seeds", "1.6 × the command with one, and the coresets of all", several,
            1.6 * first + seeds * coreset, f"{times:.2f} × one seed, coresets apart", 1.0,
            note=f"one seed takes {single:.1f} s, a coreset {coreset:.1f} s of it. {SYNTHETIC}",
        )  # fmt: skip


def _command(folder: Path, quick: bool, method: list[str], seeds: int) -> float:
    """Return the seconds of the command, its imports included."""
    command = [sys.executable, "-m", "harness", "-m", *overrides(folder, quick), *method, f"seed=range({seeds})"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    return time.perf_counter() - started


def _coreset_seconds(folder: Path, quick: bool, method: list[str]) -> float:
    """Return the seconds of one selection, with its projection."""
    config = configure(folder, quick, *method)
    torch.set_num_threads(1)
    selection = KCenterGreedy(embedding(config), config.method.coreset_sampling_ratio)
    return timed(selection.sample_coreset)[0]

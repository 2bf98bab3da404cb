"""PatchCore's nearest neighbours, anomalib's matrix of distances against our search, on patches of real images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import timm
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel

from benchmarks.comparison import REAL, Comparison, timed
from benchmarks.coreset import patches, synthetic
from harness.models.patchcore.k_center import KCenterGreedy
from harness.models.patchcore.torch_model import PatchcoreModel

BATCH = 32 * 1024  # patches of 32 images
CHECKED = 2_000  # patches whose distances are computed in double precision
Found = tuple[torch.Tensor, torch.Tensor]


def measure(quick: bool) -> Iterator[Comparison]:
    """Compare at two sizes of the bank: PatchCore's ratios 0.01 and 0.1 of the bottle's 214,016 patches."""
    real = REAL and not quick
    train = patches("train") if real else synthetic(3_000 if quick else 100_000)
    queries = patches("test") if real else synthetic(len(train) + 1_000 if quick else 200_000)[len(train) :]
    torch.manual_seed(0)
    bank = KCenterGreedy(train, 0.1).sample_coreset()
    del train
    for rows in (len(bank) // 10, len(bank)):
        yield _compare(bank[:rows].clone(), queries, "" if real else "synthetic features")


def _compare(bank: torch.Tensor, queries: torch.Tensor, note: str) -> Comparison:
    anomalibs, own = _network(), PatchcoreModel.of(_network())
    theirs_seconds, theirs = timed(lambda: _search(anomalibs, bank, queries))
    ours_seconds, ours = timed(lambda: _search(own, bank, queries), repeats=3)
    peaks = [_peak(lambda model=model: _search(model, bank, queries)) for model in (own, anomalibs)]
    errors = [_error(found, bank, queries) for found in (ours, theirs)]
    same = float((ours[1] == theirs[1]).float().mean())
    memory = f"memory beyond the input {peaks[0]} against {peaks[1]} MiB" if all(peaks) else ""
    return Comparison(
        f"nearest of {len(bank):,} rows for {len(queries):,} patches",
        "anomalib's nearest_neighbors",
        ours_seconds,
        theirs_seconds,
        f"{100 * same:.3f} % the same row; error of distances {errors[0]:.0e} against {errors[1]:.0e} of their value",
        note="; ".join(filter(None, (memory, note))),
    )


def _network() -> AnomalibPatchcoreModel:
    return AnomalibPatchcoreModel(("layer2", "layer3"), timm.create_model("resnet18"))


def _search(model: AnomalibPatchcoreModel, bank: torch.Tensor, queries: torch.Tensor) -> Found:
    """Search as scoring does: batch of images by batch of images, the preparation of a new bank included."""
    model.memory_bank = bank.clone()
    with torch.inference_mode():
        found = [model.nearest_neighbors(batch, 1) for batch in queries.split(BATCH)]
    return torch.cat([distance for distance, _ in found]), torch.cat([index for _, index in found])


def _error(found: Found, bank: torch.Tensor, queries: torch.Tensor) -> float:
    """Return the largest relative error of a distance, against double precision."""
    some = torch.linspace(0, len(queries) - 1, CHECKED).long()
    true = torch.cat([torch.cdist(part.double(), bank.double()).amin(1) for part in queries[some].split(200)])
    return float(((found[0][some] - true).abs() / true).max())


def _peak(work: Callable[[], object]) -> int | None:
    """Return by how many MiB memory rises while `work` runs, where Linux can say."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the highest resident size so far is forgotten
        before = _resident("VmRSS")
        work()
        return max(1, _resident("VmHWM") - before)
    except OSError:
        return None


def _resident(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1024

"""What was run, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.report.study import Study

READING = (
    "Tests over seeds take the test images as they are: they tell what other seeds would do, not what other images "
    "would (for these see Image AUROC on the same test images)",
    "Each table is a family of tests of its own, and no metric is the primary one: of many metrics, categories and "
    "tables some differences are found by chance",
)


def facts(study: Study) -> Iterator[str]:
    """Yield what was run, a fact a sentence; most read `What: how`."""
    runs = study.runs
    sizes = runs.groupby("dataset")["category"].nunique().items()
    yield f"{len(runs)} finished runs in {study.store}"
    yield f"Data sets: {_list(f'{dataset} ({n} categories)' if n > 1 else str(dataset) for dataset, n in sizes)}"
    yield f"Seeds: {_list(sorted(runs['seed'].unique()))}"
    if folds := {int(fold) for fold in runs["fold"] if fold}:
        yield f"Folds: {_list(sorted(folds))} (from 0), of each seed"
    columns = {"Protocol": "protocol", "Backbone weights": "weights", "Device": "device", "Libraries": "libraries"}
    for title, column in columns.items():
        yield f"{title}: {_list(sorted(runs[column].unique()))}"
    if "speed/images_per_second" in runs.columns:
        sizes = _list(sorted(runs["eval_batch_size"].unique()))
        yield f"Inference speed: in batches of {sizes}, after a warm-up, images already in memory"
    if stored := int((runs["features"] == "cached").sum()):
        yield f"Features: {stored} runs read stored ones; their times and speeds count what computing them costs"
    if timed := int(runs["timing"].sum()):
        yield f"Times measured apart: {timed} runs with timing=true, nothing stored, calls synchronised"
    yield from _settings(study)
    yield from READING
    yield "Results are the last epoch's; no epoch is chosen on the test images, but for what is labelled an oracle."


def _settings(study: Study) -> Iterator[str]:
    for method, base in study.base.items():
        yield f"{method} without a suffix means {_list(f'{k}={v}' for k, v in base.items())}"
    for method, shared in study.unusual.items():
        yield f"{method}: all runs have {_list(f'{k}={v} (usual: {u})' for k, (v, u) in shared.items())}"
    for method, tied in study.by_dataset.items():
        for key, values in tied.items():
            yield f"{method}: {key} goes with the data set: {_list(f'{d} {value}' for d, value in values.items())}"


def _list(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)

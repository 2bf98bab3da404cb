"""The study: finished runs as tidy frames, labelled, checked for doubles, mixtures and holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.report.holes import Hole, holes_of_expected, holes_of_product, seed_and_fold
from harness.report.measures import RESOURCES
from harness.report.names import tell_apart
from harness.report.variants import Setting, Settings, label_variants, settings, swept_settings, unusual, without_shots
from harness.schema import compose, flatten

Record = dict[str, Any]  # one run: the columns of `Study.runs`, and its params and final metrics as dicts


@dataclass(frozen=True)
class Study:
    """Everything a report is made of.

    Attributes:
        runs: one row a finished run: run_id, run_key, name, experiment, method, label (the variant), label_of_shots
            (the same for any number of shots), dataset, category, seed, fold ("" without), unit (what statistics
            count: the seed, or seed.fold), protocol, shots ("" without), weights, device, libraries, …, timing (a run
            that measured times and nothing else), artifact_uri, and a column for each final metric.
        epochs: run_id, metric, epoch, value of the trainable methods' runs.
        holes: cells of the grid that have no finished run.
        impossible: cells of the grid that need images which the public data lack: by the sentence that says which.
        warnings: sentences for the page.
        base: method -> the settings that `label` without a suffix stands for, where a method has variants.
        by_dataset: method -> setting -> data set -> value, for settings that differ only between data sets.
        unproven: labels of methods that worked on random weights although their data are real: no accuracy is shown.
        store: the tracking URI without password.
        unusual: method -> setting -> (value in all its runs, its default), where these differ.
        settings: label -> the settings that tell its runs from those of the method's other labels.
        params: run id -> its logged parameters.
    """

    runs: pd.DataFrame
    epochs: pd.DataFrame
    holes: tuple[Hole, ...]
    impossible: Mapping[str, tuple[Hole, ...]]
    warnings: tuple[str, ...]
    base: Mapping[str, Settings]
    by_dataset: Mapping[str, Mapping[str, Settings]]
    unproven: tuple[str, ...]
    store: str
    unusual: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    settings: Mapping[str, Settings] = field(default_factory=dict)
    params: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def assemble(
    records: list[Record],
    epochs: pd.DataFrame,
    warnings: list[str],
    expected: Sequence[Mapping[str, Any]] | None,
    store: str,
) -> Study:
    """Make the study of finished runs, one a run key, and their epoch metrics."""
    if expected is not None:  # a data set's name is no part of the key: the experiment's own name for it is shown
        names = {cell["run_key"]: cell["dataset"] for cell in expected}
        records = [r | {"dataset": names.get(r["run_key"], r["dataset"])} for r in records]
    warnings = warnings + tell_apart(records)
    unproven = _hide_unproven(records)
    swept = swept_settings([record["params"] for record in records])
    chosen = [Setting(r["method"], r["dataset"], settings(r["params"], r["weights"], swept)) for r in records]
    quick = {r["method"]: r["params"].get("trainer.quick") != "False" for r in records}
    defaults = {method: defaults_of(method, small) for method, small in quick.items()}
    variants = label_variants(chosen, defaults)
    runs = pd.DataFrame([{k: v for k, v in r.items() if k not in ("params", "metrics")} for r in records])
    runs.insert(5, "label", variants.labels)
    runs.insert(6, "label_of_shots", label_variants([without_shots(one) for one in chosen], defaults).labels)
    runs = pd.concat([runs, pd.DataFrame([r["metrics"] for r in records], index=runs.index)], axis=1)
    runs, doubled = _one_run_a_cell(runs)
    epochs = epochs[epochs["run_id"].isin(set(runs["run_id"]) - unproven)].reset_index(drop=True)
    holes, impossible = (holes_of_product(runs), {}) if expected is None else holes_of_expected(runs, expected)
    without = runs[runs["run_id"].isin(unproven)]
    warnings = warnings + doubled + _mixtures(runs) + _views(runs, records) + _unproven(without) + _tuned(runs)
    labels = tuple(sorted(without["label"].unique()))
    told = tuple(warnings)
    return Study(
        runs,
        epochs,
        tuple(holes),
        impossible,
        told,
        variants.base,
        variants.by_dataset,
        labels,
        store,
        unusual(chosen, defaults),
        variants.settings,
        {record["run_id"]: record["params"] for record in records},
    )


@lru_cache(maxsize=256)
def defaults_of(method: str, quick: bool) -> Settings:
    """Return a method's settings as configured by default; none where its configuration is not here."""
    form = [] if quick else ["trainer=default"]
    try:
        return settings({key: str(value) for key, value in flatten(compose([f"method={method}", *form])).items()}, "")
    except HarnessError:
        return {}


def drop_duplicates(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Keep the earliest run of a key; a second one means that something went wrong and is told."""
    kept: dict[str, Record] = {}
    warnings = []
    for record in records:
        first = kept.setdefault(record["run_key"], record)
        if first is not record:
            warnings.append(
                f"Run key {record['run_key']} ({record['name']}) finished twice; the earlier run "
                f"{first['run_id']} counts, {record['run_id']} does not."
            )
    return list(kept.values()), warnings


def _hide_unproven(records: list[Record]) -> set[str]:
    """Take the accuracy from runs on real data whose networks had random weights; return their ids.

    They show that a method runs. (The embedded toy data are made for untrained networks, and count.)
    """
    found = {
        record["run_id"]
        for record in records
        if ":random-" in record["weights"] and record["params"].get("dataset.layout", "toy") != "toy"
    }
    for record in records:
        if record["run_id"] in found:
            kept = {k: v for k, v in record["metrics"].items() if k.startswith(tuple(RESOURCES)) or "timing/" in k}
            record["metrics"] = kept
    return found


def _unproven(runs: pd.DataFrame) -> list[str]:
    return [
        f"{label}: {len(of_label)} runs on real data worked with random weights ({', '.join(sorted(set(of_label)))}). "
        "They show that the method runs; no accuracy is printed (–)."
        for label, of_label in runs.groupby("label")["weights"]
    ]


def _tuned(runs: pd.DataFrame) -> list[str]:
    tuned = runs[runs["tuned_on_test"] != ""]
    return [
        f"{label}: the {name.replace(',', ' and ')} of {len(of_label)} runs: chosen on test images, by the method's "
        "paper or by tuning; read these results as an oracle's."
        for (label, name), of_label in tuned.groupby(["label", "tuned_on_test"])
    ]


def _one_run_a_cell(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep the latest of runs that nothing on the page tells apart (a method's older version, say)."""
    cell = ["label", "dataset", "category", "unit", "timing"]
    doubled = runs[runs.duplicated(cell, keep="last")]
    warnings = [
        f"{row.label} / {row.dataset} / {row.category} / {seed_and_fold(row.seed, row.fold)} has runs of different "
        f"keys with the same settings; the latest counts, {row.run_id} ({row.run_key}) does not."
        for row in doubled.itertuples()
    ]
    return runs.drop_duplicates(cell, keep="last").reset_index(drop=True), warnings


def _views(runs: pd.DataFrame, records: Sequence[Record]) -> list[str]:
    """Tell when methods see the images of one data set differently: cropped, or at another size."""
    params = {record["run_id"]: record["params"] for record in records}
    sentences = []
    for dataset, of_dataset in runs.groupby("dataset"):
        views: dict[str, set[str]] = {}
        for run in of_dataset.drop_duplicates("label").itertuples():
            views.setdefault(run.method, set()).add(view_of(params[run.run_id]))
        if len({frozenset(seen) for seen in views.values()}) > 1:  # an ablation has the same views of each method
            parts = "; ".join(f"{method}: {', '.join(sorted(seen))}" for method, seen in sorted(views.items()))
            sentences.append(
                f"{dataset}: methods see the images differently ({parts}). With metrics.frame=visible the pixel "
                f"metrics "
                "are of what each sees, and a defect that is cropped away counts as one all the same."
            )
    return sentences


def view_of(params: Mapping[str, str]) -> str:
    """Return how a run sees its images: `center_crop of 256 to 128`, `pad to 256`, `window [400, 400] to 256`."""
    mode, size = params.get("preprocess.mode", "unknown"), params.get("preprocess.size", "unknown")
    resize, window = params.get("preprocess.resize"), params.get("preprocess.window")
    what = f"{mode} {window}" if mode == "window" else f"{mode} of {resize}" if mode == "center_crop" else mode
    return f"{what} to {size}"


def _mixtures(runs: pd.DataFrame) -> list[str]:
    """Tell when runs of different machines or library versions stand in one report."""
    names = {"device": "devices", "libraries": "library versions", "version": "harness versions"}
    names["classifier_libraries"] = "library versions of classifiers"
    sentences = []
    for column, name in names.items():
        count = runs.loc[runs[column] != "", column].value_counts()
        if len(count) > 1:
            parts = "; ".join(f"{value}: {n} runs" for value, n in sorted(count.items()))
            sentences.append(f"The runs mix {name}, which can change numbers slightly ({parts}).")
    return sentences

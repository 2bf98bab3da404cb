"""Choices of the epoch, thresholds, stability and few shots: their numbers, recomputed, and where they are traced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.report.__main__ import main
from harness.report.decisions import decision_tables
from harness.report.measures import Measure
from harness.report.shots import draw_shots, shot_curves
from harness.report.stability import pairs, stability_tables, with_stability

SETTINGS = {"radl": {}, "radl (loss=l1)": {"method.loss": "l1"}}
EPOCHS = 15


def curve(label: str, category: str, seed: int) -> list[float]:
    """Return an image AUROC an epoch: the L1 loss falls deep in epoch 8, once the run has converged."""
    rng = np.random.default_rng([len(label), len(category), seed])
    values = 0.9 - 0.3 * np.exp(-np.arange(EPOCHS)) + rng.normal(0, 0.002, EPOCHS)
    if "l1" in label:
        values[8] = 0.54 + 0.01 * seed
    return [float(value) for value in values]


def confused(rule: str, tp: int, fp: int) -> dict[str, float]:
    counts = {"tp": tp, "fp": fp, "fn": 20 - tp, "tn": 10 - fp}
    rates = {"fpr": fp / 10, "fnr": 1 - tp / 20, "recall": tp / 20, "f1": 2 * tp / (tp + fp + 20), "value": 3.25}
    if tp + fp:
        rates["precision"] = tp / (tp + fp)
    return {f"threshold/{rule}/{key}": float(value) for key, value in (counts | rates).items()}


@pytest.fixture(scope="module")
def store(make_store: Callable[[str], Any]) -> Any:
    """RADL with two losses, two categories and four seeds; with thresholds, and a validation for one of them."""
    store = make_store("sections")
    for label, params in SETTINGS.items():
        for category in ("a", "bb"):
            for seed in range(4):
                values = curve(label, category, seed)
                metrics = {"oracle/image_auroc": max(values)} | confused("fpr_5", 12 + seed, seed)
                metrics |= confused("f1_test", 15, 1) | confused("fpr_10", 0 if seed == 3 else 5, 0)
                if label == "radl":
                    metrics["validation/image_auroc"] = values[-2]
                given = {"params": params, "metrics": metrics, "curve": values}
                store.add("radl", category, seed, level=values[-1], epochs=EPOCHS, **given)
    return store


@pytest.fixture(scope="module")
def report(store: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sections")
    assert main([f"tracking.uri={store.uri}", f"reports_dir={folder}"]) == 0
    return folder / "all"


def lines(report: Path, heading: str) -> list[str]:
    page = (report / "report.md").read_text(encoding="utf-8")
    part = page[page.index(heading) :].split("\n### ")[0 if heading.startswith("### ") else 1]
    return [line for line in part.splitlines() if line.startswith("|")]


def test_choices_of_the_epoch_stand_side_by_side(report: Path) -> None:
    head, _, *rows = lines(report, "### Image AUROC by the choice of the epoch")
    assert head == "| Category | Method | Last epoch | Best on validation | Best on test (oracle) |"
    assert len(rows) == 6
    numbers = pd.read_csv(report / "tables" / "image_auroc_by_epoch_choice.csv")
    numbers = numbers.set_index(["category", "method", "measure"])["mean"].sort_index()
    for label in SETTINGS:
        curves = [curve(label, "bb", seed) for seed in range(4)]
        found = numbers["bb", label]
        assert found["test/image_auroc"] == pytest.approx(100 * np.mean([c[-1] for c in curves]))
        assert found["oracle/image_auroc"] == pytest.approx(100 * np.mean([max(c) for c in curves]))
    assert ("bb", "radl (loss=l1)", "validation/image_auroc") not in numbers.index
    assert [row.split(" | ")[3] for row in rows if "l1" in row] == ["–"] * 3


def test_thresholds_have_rates_and_counts(report: Path) -> None:
    head, _, first, *rest = lines(report, "### Threshold at an FPR of 5 %")
    assert head == "| Category | Method | FPR | FNR | Precision | Recall | F1 | TP | FP | FN | TN |"
    fpr = f"15.0 ± {100 * np.std([0.0, 0.1, 0.2, 0.3], ddof=1):.1f}"
    assert first.startswith(f"| a | radl | {fpr} | 32.5 ± 6.5 | ") and first.endswith(
        "| 13.5 ± 1.3 | 1.5 ± 1.3 | 6.5 ± 1.3 | 8.5 ± 1.3 |"
    )
    assert rest[-1].startswith("| *Mean* | radl (loss=l1) |") and rest[-1].endswith("| – | – | – | – |")
    numbers = pd.read_csv(report / "tables" / "threshold_fpr_5.csv").set_index(["category", "method", "measure"])
    assert numbers.loc[("a", "radl", "threshold/fpr_5/value"), "mean"] == 3.25


def test_a_precision_without_alarm_is_left_out(report: Path) -> None:
    _, _, first, *_ = lines(report, "### Threshold at an FPR of 10 %")
    assert "100.0 ± 0.0 (n=3)" in first


def test_rules_come_in_order_and_the_one_of_the_test_is_labelled(report: Path) -> None:
    page = (report / "report.md").read_text(encoding="utf-8")
    titles = [line for line in page.splitlines() if line.startswith("### Threshold")]
    assert titles == [
        "### Threshold at an FPR of 5 %",
        "### Threshold at an FPR of 10 %",
        "### Threshold of the highest F1 on the test images (oracle)",
    ]
    assert "chosen on the test images themselves" in page
    assert decision_tables(pd.DataFrame({"test/aupro": [0.9]}), []) == []


def test_stability_is_tested_between_settings(report: Path) -> None:
    _, _, *rows = lines(report, "### Stability of image AUROC")
    drops = {}
    for label in SETTINGS:
        curves = [curve(label, "a", seed) for seed in range(4)]
        drops[label] = [100 * (max(c[:9]) - c[8]) for c in curves]
    numbers = pd.read_csv(report / "tables" / "stability_image_auroc.csv").set_index(["category", "method", "measure"])
    drop = numbers.loc[("a", "radl (loss=l1)", "stability/image_auroc/worst_drop")]
    assert drop["mean"] == pytest.approx(np.mean(drops["radl (loss=l1)"]))
    assert drop["std"] == pytest.approx(np.std(drops["radl (loss=l1)"], ddof=1))
    assert not drop["best"] and numbers.loc[("a", "radl", "stability/image_auroc/worst_drop"), "best"]
    assert len(rows) == 6 and all(row.count("**") == 6 for row in rows if "| radl |" in row)
    settled = numbers.loc[("a", "radl (loss=l1)", "stability/image_auroc/settled_epoch"), "mean"]
    assert settled == 9.0  # after the fall


def test_pairs_of_settings_agree_with_scipy(report: Path) -> None:
    found = pd.read_csv(report / "tables" / "stability_pairs.csv").set_index(["category", "measure"])
    last = {label: [np.std(100 * np.array(curve(label, "a", s))[-10:], ddof=1) for s in range(4)] for label in SETTINGS}
    one, other = last.values()
    pair = found.loc[("a", "stability/image_auroc/std_last")]
    assert pair["method"] == "radl − radl (loss=l1)"
    assert pair["mean"] == pytest.approx(np.mean(one) - np.mean(other))
    assert pair["pvalue"] == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue, rel=1e-6)
    assert pair["holm"] == pair["pvalue"]  # the only pair
    head, _, row = lines(report, "### Stability: settings two by two")
    assert head == "| Category | Pair | Worst drop | Deviation | Settled |"
    assert row.startswith("| *Mean* | radl − radl (loss=l1) | **-3") and "p < 0.001" in row


def test_pairs_are_corrected_together() -> None:
    rng = np.random.default_rng(2)
    runs = pd.DataFrame(
        [
            (f"{label}{seed}", "toy", "a", label, "", str(seed), rng.normal(i, 1.0))
            for i, label in enumerate("xyz")
            for seed in range(5)
        ],
        columns=["run_id", "dataset", "category", "label", "fold", "unit", "test/image_auroc"],
    )
    found = pairs(runs, Measure("test/image_auroc", "x"), ["x", "y", "z"])
    assert list(found["label"]) == ["x − y", "x − z", "y − z"]
    assert found["holm"].min() == pytest.approx(3 * found["pvalue"].min())
    assert (found["holm"] >= found["pvalue"]).all()


def test_every_new_number_is_traced(report: Path, store: Any) -> None:
    trace = json.loads((report / "provenance.json").read_text(encoding="utf-8"))
    cell = trace["tables"]["threshold_fpr_5"]["toy/a"]["radl: threshold/fpr_5/fnr"]
    values = [store.client.get_run(run).data.metrics["threshold/fpr_5/fnr"] for run in cell["run_ids"]]
    assert cell["mean"] == pytest.approx(100 * np.mean(values)) and cell["n"] == 4 and cell["unit"] == "seed"
    oracle = trace["tables"]["image_auroc_by_epoch_choice"]["toy (Mean)"]["radl: oracle/image_auroc"]
    assert len(oracle["run_ids"]) == 8
    pair = trace["tables"]["stability_pairs"]["toy/a"]["radl − radl (loss=l1): stability/aupro/std_last"]
    assert len(pair["run_ids"]) == 8 and 0 <= pair["pvalue"] <= pair["holm"] <= 1 and pair["std"] is None
    for name in trace["tables"]:
        assert (report / "tables" / f"{name}.tex").is_file() and (report / "tables" / f"{name}.csv").is_file()


def test_short_runs_have_no_stability() -> None:
    runs = pd.DataFrame({"run_id": ["r"], "dataset": ["toy"], "category": ["a"], "label": ["m"]})
    runs["fold"], runs["unit"] = "", "0"
    points = [("r", "test/image_auroc", epoch, 0.9) for epoch in range(2)]
    epochs = pd.DataFrame(points, columns=["run_id", "metric", "epoch", "value"])
    assert with_stability(runs, epochs).empty
    assert stability_tables(runs, epochs, ["m"]) == []
    assert stability_tables(runs, epochs.iloc[:0], ["m"]) == []


def test_wanted_tables_come_alone(store: Any, tmp_path: Path) -> None:
    assert main([f"tracking.uri={store.uri}", f"reports_dir={tmp_path}", "tables=[image_auroc]"]) == 0
    page = (tmp_path / "all" / "report.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## What was run",
        "## Results",
        "## Provenance",
    ]
    assert not (tmp_path / "all" / "figures").exists()


def test_image_auroc_over_the_number_of_training_images(make_store: Callable[[str], Any], tmp_path: Path) -> None:
    store = make_store("few_shots")
    for category in ("a", "b"):
        for shots in ("1", "2", "16", "all"):
            for seed in range(2):
                params = {"protocol.name": "few_shot", "protocol.shots": shots}
                level = 0.5 + 0.1 * len(shots) + 0.01 * seed
                store.add("padim", category, seed, level=level, params=params, tags={"protocol": "few_shot"})
        store.add("padim", category, 0)
    assert main([f"tracking.uri={store.uri}", f"reports_dir={tmp_path}"]) == 0
    page = (tmp_path / "all" / "report.md").read_text(encoding="utf-8")
    assert "## Number of training images\n\n### toy\n\n![Number of training images](figures/shots_toy.png)" in page
    trace = json.loads((tmp_path / "all" / "provenance.json").read_text(encoding="utf-8"))
    assert len(trace["figures"]["shots_toy"]["padim"]["test/image_auroc"]["a"]) == 8
    assert "figures/shots_toy.pdf" in trace["files"]


def test_curves_of_shots_are_mean_and_range(tmp_path: Path) -> None:
    rows = [(f"{s}{seed}", "toy", "m", "a", s, 0.5 + seed / 10) for s in ("4", "all") for seed in range(3)]
    runs = pd.DataFrame(rows, columns=["run_id", "dataset", "label_of_shots", "category", "shots", "test/image_auroc"])
    curves = shot_curves(runs).set_index("shots")
    assert curves.loc["4", ["mean", "low", "high", "n"]].tolist() == pytest.approx([60.0, 50.0, 70.0, 3])
    assert shot_curves(runs[runs["shots"] == "4"]).empty
    assert list(draw_shots(shot_curves(runs.drop(columns="test/image_auroc")), tmp_path)) == []

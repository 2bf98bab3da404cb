"""Means, deviations and best groups, recomputed by other means."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.errors import ConfigError
from harness.report.measures import OPTIMISM, Measure, measures, with_optimism
from harness.report.summary import MEAN, summarise

AUROC = Measure("test/image_auroc", "Image AUROC")


def frame(values: dict[tuple[str, str, int], float], dataset: str = "toy") -> pd.DataFrame:
    rows = [
        {"run_id": f"{m}{c}{s}", "label": m, "dataset": dataset, "category": c, "test/image_auroc": v}
        | {"seed": s, "fold": "", "unit": str(s)}
        for (m, c, s), v in values.items()
    ]
    return pd.DataFrame(rows)


def cell(summary: pd.DataFrame, label: str, category: str) -> pd.Series:
    found = summary[(summary["label"] == label) & (summary["category"] == category)]
    assert len(found) == 1
    return found.iloc[0]


def test_cells_agree_with_scipy() -> None:
    rng = np.random.default_rng(3)
    values = {
        (m, c, s): rng.normal(x, 0.01)
        for m, x in (("a", 0.9), ("b", 0.895), ("c", 0.7))
        for c in "xy"
        for s in range(8)
    }
    summary = summarise(frame(values), AUROC)
    for category in "xy":
        samples = {m: [100 * values[m, category, s] for s in range(8)] for m in "abc"}
        best = max(samples, key=lambda m: np.mean(samples[m]))
        for m, sample in samples.items():
            found = cell(summary, m, category)
            assert found["mean"] == pytest.approx(np.mean(sample))
            assert found["std"] == pytest.approx(np.std(sample, ddof=1))
            separated = stats.ttest_ind(sample, samples[best], equal_var=False).pvalue < 0.05
            assert found["best"] == (m == best or not separated)
            assert set(found["run_ids"]) == {f"{m}{category}{s}" for s in range(8)}
    assert not cell(summary, "c", "x")["best"]


def test_mean_row_is_over_seeds() -> None:
    values = {("a", "x", 0): 0.9, ("a", "x", 1): 0.8, ("a", "y", 0): 0.5, ("a", "y", 1): 0.8, ("a", "y", 2): 0.1}
    mean = cell(summarise(frame(values), AUROC), "a", MEAN)
    assert mean["mean"] == pytest.approx(75.0)
    assert mean["std"] == pytest.approx(np.std([70, 80], ddof=1))
    assert (mean["n"], set(mean["run_ids"])) == (2, {"ax0", "ax1", "ay0", "ay1"})


def test_mean_row_without_a_complete_seed_has_no_deviation() -> None:
    values = {("a", "x", 0): 0.9, ("a", "x", 1): 0.7, ("a", "y", 2): 0.4, ("a", "y", 3): 0.6}
    mean = cell(summarise(frame(values), AUROC), "a", MEAN)
    assert mean["mean"] == pytest.approx(65.0)
    assert (mean["n"], np.isnan(mean["std"]), len(mean["run_ids"])) == (0, True, 4)


def test_mean_row_is_not_over_different_categories() -> None:
    values = {("a", "x", 0): 0.9, ("a", "y", 0): 0.7, ("b", "x", 0): 1.0}
    summary = summarise(frame(values), AUROC)
    assert list(summary[summary["is_mean"]]["label"]) == ["a"]
    assert not summarise(frame({("a", "x", 0): 0.9}), AUROC)["is_mean"].any()


def test_rounding_noise_is_no_difference() -> None:
    """Two methods whose seed means agree but for the last bit are not told apart."""
    values = {("a", c, s): v for s in range(3) for c, v in zip("xyz", (0.1, 0.2, 0.3), strict=True)}
    values |= {("b", c, s): v for s in range(3) for c, v in zip("xyz", (0.3, 0.2, 0.1), strict=True)}
    summary = summarise(frame(values), AUROC)
    assert cell(summary, "a", MEAN)["best"]
    assert cell(summary, "b", MEAN)["best"]


def test_undefined_values_are_left_out() -> None:
    values = {("a", "x", 0): 0.9, ("a", "x", 1): float("nan"), ("a", "x", 2): 0.7, ("b", "x", 0): float("nan")}
    summary = summarise(frame(values), AUROC)
    assert cell(summary, "a", "x")["n"] == 2
    assert "b" not in set(summary["label"])


def test_resources_are_not_tested() -> None:
    runs = frame({("a", "x", s): 9.0 + s for s in range(3)} | {("b", "x", s): 1.0 + s for s in range(3)})
    runs = runs.rename(columns={"test/image_auroc": "time/train"})
    (time,) = measures(runs)
    assert (time.name, time.unit, time.scale) == ("time_train", "s", 1.0)
    assert not summarise(runs, time)["best"].any()


def test_measures_in_order_and_by_wish() -> None:
    runs = frame({("a", "x", 0): 0.9})
    runs["test/aupro"], runs["test/pixel_ap"], runs["memory/peak"], runs["test/accuracy"] = 0.1, float("nan"), 5.0, 0.7
    assert [m.name for m in measures(runs)] == ["image_auroc", "aupro", "memory_peak"]
    assert [m.name for m in measures(runs, ["accuracy", "memory/peak", "aupro"])] == [
        "accuracy",
        "memory_peak",
        "aupro",
    ]
    with pytest.raises(ConfigError, match=r"pixel_ap; metrics can be: image_auroc, aupro, memory_peak"):
        measures(runs, ["pixel_ap"])


def test_optimism_is_of_trainable_runs() -> None:
    runs = frame({("a", "x", 0): 0.9, ("a", "x", 1): 0.8, ("b", "x", 0): 0.7})
    runs["oracle/image_auroc"], runs["trainable"] = [0.95, 0.8, 0.7], [True, True, False]
    summary = summarise(with_optimism(runs), OPTIMISM)
    assert list(summary["label"]) == ["a"]
    assert cell(summary, "a", "x")["mean"] == pytest.approx(2.5)
    assert with_optimism(runs.drop(columns="oracle/image_auroc")).empty

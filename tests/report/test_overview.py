"""Plain words, crossed settings, usage guide."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from frames import runs_of

from harness.report.crossed import PLAIN, crossed, crossed_table
from harness.report.measures import Measure
from harness.report.overview import overview_table, sentences
from harness.report.study import Study
from harness.report.traits import guide_tables

AUROC = Measure("test/image_auroc", "Image AUROC")
VALUES = {
    ("x", "a"): [0.95, 0.951, 0.952],
    ("x", "b"): [0.90, 0.901, 0.902],
    ("y", "a"): [0.9505, 0.9515, 0.9525],
    ("y", "b"): [0.70, 0.71, 0.72],
    ("z", "a"): [0.60, 0.61, 0.62],
    ("z", "b"): [0.5, 0.5, 0.51],
}


def of_a(*labels: str) -> dict[tuple[str, str], list[float]]:
    return {key: value for key, value in VALUES.items() if key[1] == "a" and key[0] in labels}


def test_sentences_tell_the_best_what_is_not_shown_and_the_lowest() -> None:
    (mean,) = sentences(runs_of(VALUES), AUROC)
    assert mean == (
        "set, mean of a, b: x has the highest Image AUROC, 92.6 ± 0.1 %; on these test images every other that could "
        "be tested is lower (3 seeds). Lowest: z, 55.7 ± 0.8 %."
    )
    (one,) = sentences(runs_of(of_a("x", "y", "z")), AUROC)
    assert "set / a: y has the highest" in one and "; a difference from x is not shown by 3 seeds." in one
    assert list(sentences(runs_of({("x", "a"): [0.9]}), AUROC)) == [], "nothing to compare"


def test_sentences_never_claim_a_test_that_was_not_made() -> None:
    (single,) = sentences(runs_of({("x", "a"): [0.9], ("y", "a"): [0.8]}), AUROC)
    assert "no test over seeds was possible: it may be chance. Lowest: y" in single and "±" not in single
    (star,) = sentences(runs_of(of_a("x", "y") | {("star", "a"): [0.99]}), AUROC)
    assert "star has the highest" in star and "too few seeds for a test" in star and "not shown" not in star
    (tie,) = sentences(runs_of({("x", "a"): [0.9, 0.91], ("y", "a"): [0.91, 0.9]}), AUROC)
    assert tie == "set / a: x, y have the highest Image AUROC, 90.5 ± 0.7 %."


def test_sentences_over_folds_name_only_what_is_not_separated() -> None:
    base = np.linspace(0.9, 0.95, 10)
    values = {("best", "a"): base, ("near", "a"): base + [0.002, -0.003] * 5, ("far", "a"): base - 0.3}
    (sentence,) = sentences(runs_of(values, folds=10), AUROC)
    assert "a difference from near is not shown by 10 folds. Lowest: far" in sentence


def test_what_the_best_does_on_the_line() -> None:
    runs = runs_of(VALUES).assign(**{"threshold/fpr_5/fpr": 0.04, "threshold/fpr_5/fnr": 0.3})
    runs.loc[runs["category"] == "b", "threshold/fpr_5/fnr"] = 0.5
    (sentence,) = sentences(runs, AUROC)
    assert sentence.endswith("x misses 40 % of the defective test images and alarms on 4 % of the good ones.")


def test_overview_has_means_and_costs() -> None:
    runs = runs_of(VALUES).assign(**{"speed/images_per_second": 50.0})
    speed = Measure("speed/images_per_second", "Inference speed", "images/s", 1.0, tested=False)
    (table,) = overview_table(runs, [AUROC, speed], ["x", "y", "z"])
    assert [row.more[0] for row in table.rows] == ["x", "y", "z"] and all(row.is_mean for row in table.rows)
    assert table.columns == ("Image AUROC", "Inference speed")
    assert overview_table(runs, [AUROC], ["x"]) == []


def test_crossed_settings_are_found() -> None:
    assert crossed(["m", "m (augment=r)", "n", "n (augment=r)"]) == {
        PLAIN: {"m": "m", "n": "n"},
        "augment=r": {"m": "m (augment=r)", "n": "n (augment=r)"},
    }
    windows = [f"{method} (window={size})" for method in "mn" for size in (200, 400, 1000)]
    assert list(crossed(windows)) == ["window=200", "window=400", "window=1000"], "by value"
    for not_crossed in (["m", "n"], ["m", "m (a=1)"], ["m", "m (a=1)", "n"], []):
        assert crossed(not_crossed) == {}


def test_a_crossed_table_tests_within_a_setting_and_underlines_what_improves() -> None:
    values = {
        ("m", "a"): [0.80, 0.81, 0.82],
        ("n", "a"): [0.90, 0.91, 0.92],
        ("m (augment=r)", "a"): [0.85, 0.86, 0.87],
        ("n (augment=r)", "a"): [0.70, 0.71, 0.72],
    }
    table = crossed_table(runs_of(values), AUROC, crossed([label for label, _ in values]))
    assert table.columns == ("m", "n") and table.heads == ("Category", "Setting")
    plain, augmented = table.rows
    assert (plain.more, augmented.more) == ((PLAIN,), ("augment=r",))
    assert [(c.mean, c.bold, c.underlined) for c in plain.cells if c] == [("81.0", False, False), ("91.0", True, False)]
    assert [(c.mean, c.bold, c.underlined) for c in augmented.cells if c] == [
        ("86.0", True, True),
        ("71.0", False, False),
    ]
    assert "Underlined" in table.caption
    assert len(table.numbers) == 4 and set(table.numbers["setting"]) == {PLAIN, "augment=r"}


def study_of(runs: pd.DataFrame, params: dict[str, str]) -> Study:
    ids = list(runs["run_id"])
    study = Study(runs, pd.DataFrame(), (), {}, (), {}, {}, (), "store")
    return replace(study, params=dict.fromkeys(ids, params))


def test_the_guide_averages_categories_with_a_trait() -> None:
    traits = {"small, hidden": ["b", "c"], "large": ["a", "b"], "none": ["q"]}
    study = study_of(runs_of(VALUES), {"dataset.traits": json.dumps(traits)})
    (table,) = guide_tables(study, AUROC, ["x", "y", "z"])
    assert [(row.label, row.more) for row in table.rows] == [("small, hidden", ("b",)), ("large", ("a, b",))]
    assert table.columns == ("x", "y", "z", "Suggested")
    suggested = [row.cells[-1].mean for row in table.rows if row.cells[-1]]
    assert suggested == ["x", "x"]
    large = table.numbers[(table.numbers["category"] == "large") & (table.numbers["label"] == "y")].iloc[0]
    means = 50 * (np.array(VALUES["y", "a"]) + VALUES["y", "b"])
    assert large["mean"] == pytest.approx(means.mean()) and large["std"] == pytest.approx(means.std(ddof=1))


def test_one_trait_or_none_makes_no_guide() -> None:
    assert guide_tables(study_of(runs_of(VALUES), {}), AUROC, ["x"]) == []
    assert guide_tables(study_of(runs_of(VALUES), {"dataset.traits": '{"large": ["a"]}'}), AUROC, ["x"]) == []

"""Settings two by two and over categories: numbers against SciPy and statsmodels, and what is said about them."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import runs_of
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.report.measures import Measure
from harness.report.over_categories import draw_rankings, ranking_tables, rankings
from harness.report.pairs import MOST_PAIRS, all_pairs, compare, draw_matrices, pair_tables, shown_pairs

AUROC = Measure("test/image_auroc", "Image AUROC")
RNG = np.random.default_rng(3)
LABELS = ["best", "close", "worse"]
VALUES = {
    (label, category): (level + RNG.normal(0, 0.004, 6)).round(6).tolist()
    for label, level in (("best", 0.95), ("close", 0.949), ("worse", 0.90))
    for category in ("a", "b")
}


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    return all_pairs(runs_of(VALUES), AUROC, LABELS)


def of(pairs: pd.DataFrame, label: str, category: str) -> pd.Series:
    (row,) = (row for _, row in pairs[(pairs["label"] == label) & (pairs["category"] == category)].iterrows())
    return row


def test_a_pair_has_what_scipy_says(pairs: pd.DataFrame) -> None:
    one, other = (100 * np.array(VALUES[label, "a"]) for label in ("best", "worse"))
    row, result = of(pairs, "best − worse", "a"), stats.ttest_ind(one, other, equal_var=False)
    interval = result.confidence_interval()
    assert row["mean"] == pytest.approx(one.mean() - other.mean())
    assert row["pvalue"] == pytest.approx(result.pvalue)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["n"] == 6 and row["unit"] == "seed"
    assert row["run_ids"] == tuple(f"{label}-a-{i}" for label in ("best", "worse") for i in range(6))


def test_means_average_the_categories_within_a_seed(pairs: pd.DataFrame) -> None:
    means = {label: 50 * (np.array(VALUES[label, "a"]) + VALUES[label, "b"]) for label in LABELS}
    row = of(pairs, "best − close", "Mean")
    assert row["pvalue"] == pytest.approx(stats.ttest_ind(means["best"], means["close"], equal_var=False).pvalue)
    assert row["superiority"] == pytest.approx(np.mean(means["best"][:, None] > means["close"][None, :]))


@pytest.mark.parametrize(("correction", "name"), [("holm", "holm"), ("bh", "fdr_bh")])
def test_the_correction_is_over_the_tests_of_the_table(correction: str, name: str) -> None:
    numbers = all_pairs(runs_of(VALUES), AUROC, LABELS, correction)
    for category in ("Mean", "a"):
        family = numbers[numbers["category"] == category]
        expected = multipletests(family["pvalue"], method=name)[1]
        assert family["corrected"].to_numpy() == pytest.approx(expected)


def test_no_difference_found_and_shown_equal_are_two_things() -> None:
    tight = [0.9 + d for d in (0.0001, -0.0001, 0.0002, -0.0002, 0.0)]
    wide = [0.9 + d for d in (0.05, -0.05, 0.06, -0.06, 0.0)]
    values = {("tight", "a"): tight, ("same", "a"): tight[::-1], ("wide", "a"): wide}
    numbers = all_pairs(runs_of(values), AUROC, ["tight", "same", "wide"]).set_index("label")
    assert numbers["verdict"].to_dict() == {
        "tight − same": "equal ±1",
        "tight − wide": "undecided",
        "same − wide": "undecided",
    }
    undecided = numbers.loc["tight − wide"]
    assert undecided["seeds_needed"] > 5 and undecided["detectable"] > 1
    (table,) = pair_tables(compare(runs_of(values), [AUROC], ["tight", "same", "wide"], "holm"))
    cells = {row.more[0]: row.cells for row in table.rows}
    assert cells["tight − same"][-1] is None
    cell = cells["tight − wide"][-1]
    found = re.fullmatch(r"finds ([\d.]+), needs (\d+)", cell.mean if cell else "")
    assert found and float(found[1]) == pytest.approx(undecided["detectable"], abs=0.05)
    assert float(found[2]) == pytest.approx(undecided["seeds_needed"], rel=0.05), "in two digits"
    assert "raw and as corrected by Holm" in table.caption and "for 3 pairs" in table.caption


def test_one_seed_zero_variance_and_missing_cells() -> None:
    values = {
        ("one", "a"): [0.9],
        ("constant", "a"): [0.9, 0.9, 0.9],
        ("equal", "a"): [0.9, 0.9, 0.9],
        ("other", "a"): [0.8, 0.8, 0.8],
        ("elsewhere", "b"): [0.8, 0.9],
    }
    numbers = all_pairs(runs_of(values), AUROC, ["one", "constant", "equal", "other", "elsewhere"]).set_index("label")
    assert set(numbers.index) == {"constant − equal", "constant − other", "equal − other"}, "one seed has no test"
    assert set(numbers["verdict"]) == {"no test"}, "seeds without variance are copies of one run"
    assert numbers["pvalue"].isna().all() and numbers.loc["constant − other", "mean"] == pytest.approx(10.0)
    assert all_pairs(runs_of({("one", "a"): [0.9]}), AUROC, ["one"]).empty
    assert compare(runs_of({("one", "a"): [0.9]}), [AUROC], ["one"], "holm") == []


def test_small_differences_that_are_shown_are_both() -> None:
    tight = np.array([0.0001, -0.0001, 0.0002, -0.0002, 0.0])
    values = {("a", "x"): 0.9 + tight, ("b", "x"): 0.902 + tight, ("c", "x"): 0.95 + tight}
    numbers = all_pairs(runs_of(values), AUROC, ["a", "b", "c"]).set_index("label")
    assert numbers["verdict"].to_dict() == {
        "a − b": "different, by less than 1",
        "a − c": "different",
        "b − c": "different",
    }
    assert numbers["tost_corrected"].to_numpy() == pytest.approx(multipletests(numbers["tost"], method="holm")[1])


def test_folds_have_a_verdict_by_the_resampled_test() -> None:
    base = RNG.normal(0.9, 0.03, 10)
    values = {("a", "x"): base, ("b", "x"): base + 0.02 + RNG.normal(0, 0.003, 10), ("c", "x"): base[:4]}
    numbers = all_pairs(runs_of(values, folds=10), AUROC, ["a", "b", "c"]).set_index("label")
    row = numbers.loc["a − b"]
    differences = 100 * (np.round(values["a", "x"], 12) - values["b", "x"])
    t = differences.mean() / math.sqrt((1 / 10 + 1 / 9) * differences.var(ddof=1))
    wilcoxon = stats.wilcoxon(values["a", "x"], values["b", "x"]).pvalue
    assert row["pvalue"] == pytest.approx(wilcoxon) == pytest.approx(2 / 2**10)
    assert row["resampled"] == pytest.approx(2 * stats.t.sf(abs(t), 9))
    assert row["verdict"] == "different" and row["effect"] == -1.0
    hopeless = numbers.loc["a − c"]
    assert math.isnan(hopeless["pvalue"]) and hopeless["smallest_pvalue"] == 0.125, "four folds cannot be significant"
    (table,) = pair_tables(compare(runs_of(values, folds=10), [AUROC], ["a", "b", "c"], "holm"))
    assert "anticonservative" in table.caption and "Nadeau" in table.columns[3]
    assert "The smallest p that Wilcoxon's test can have here is 0.00195, corrected 0.00586" in table.caption


def test_many_settings_leave_wilcoxon_nothing_to_find() -> None:
    """28 pairs of ten folds: 28 × 2 / 2¹⁰ > 5 %; the resampled test goes on."""
    base = RNG.normal(0.9, 0.01, 10)
    labels = [f"m{i}" for i in range(8)]
    values = {(label, "x"): base + i / 20 + RNG.normal(0, 0.001, 10) for i, label in enumerate(labels)}
    numbers = all_pairs(runs_of(values, folds=10), AUROC, labels)
    assert numbers["pvalue"].isna().all() and set(numbers["verdict"]) == {"different"}


def test_seeds_and_folds_have_tables_of_their_own() -> None:
    folds = runs_of({(label, "x"): RNG.normal(0.9, 0.01, 10) for label in "ab"}, "of_folds", folds=10)
    seeds = runs_of({(label, "x"): RNG.normal(0.9, 0.01, 4) for label in "ab"}, "of_seeds")
    tables = pair_tables(compare(pd.concat([folds, seeds]), [AUROC], ["a", "b"], "holm"))
    assert [table.name for table in tables] == ["pairs_image_auroc", "pairs_image_auroc_folds"]
    assert all(len(row.cells) == len(table.columns) for table in tables for row in table.rows)


def test_of_many_settings_the_pairs_with_the_best_are_shown() -> None:
    labels = [f"m{i:02d}" for i in range(12)]
    values = {(label, "a"): [0.5 + i / 100, 0.5 + i / 100 + 0.001] for i, label in enumerate(labels)}
    numbers = all_pairs(runs_of(values), AUROC, labels)
    assert len(numbers) == 66 > MOST_PAIRS
    shown = shown_pairs(numbers)
    assert len(shown) == 11 and all("m11" in label for label in shown["label"])
    assert shown["effect"].notna().all()


def test_matrix_of_a_data_set(tmp_path: Path) -> None:
    found = compare(runs_of(VALUES), [AUROC], LABELS, "holm")
    (figure,) = draw_matrices(found, LABELS, tmp_path)
    assert figure.name == "pairs_image_auroc_set_Mean" and (tmp_path / f"{figure.name}.pdf").is_file()
    assert set(figure.lines) == {"best − close", "best − worse", "close − worse"}
    assert list(draw_matrices(compare(runs_of(VALUES), [AUROC], LABELS[:2], "holm"), LABELS[:2], tmp_path)) == []


def test_ranks_over_categories_average_seeds_first(tmp_path: Path) -> None:
    categories, labels = [f"c{i}" for i in range(6)], ["x", "y", "z"]
    levels = RNG.normal(0.9, 0.02, (6, 3)) + np.array([0, 0.01, 0.05])
    values = {
        (label, c): [levels[i, j] - 0.01, levels[i, j] + 0.01]
        for i, c in enumerate(categories)
        for j, label in enumerate(labels)
    }
    (ranking,) = rankings(runs_of(values), [AUROC], labels)
    assert ranking.scores.to_numpy() == pytest.approx(100 * levels)
    (table,) = ranking_tables([ranking])
    ranks = stats.rankdata(-levels, axis=1).mean(axis=0)
    assert table.numbers.set_index("label")["mean_rank"].to_dict() == pytest.approx(
        dict(zip(labels, ranks, strict=True))
    )
    chi = stats.friedmanchisquare(*levels.T)
    assert f"χ² = {chi.statistic:.2f}" in table.caption
    assert table.rows[0].label == labels[int(np.argmin(ranks))] and table.rows[0].cells[2] is None
    (figure,) = draw_rankings([ranking], tmp_path)
    assert (tmp_path / f"{figure.name}.png").is_file() and "Nemenyi" in figure.caption


def test_ranks_need_three_categories_and_every_cell() -> None:
    values = {(label, c): [0.9, 0.8] for label in ("x", "y") for c in ("a", "b")}
    assert rankings(runs_of(values), [AUROC], ["x", "y"]) == []
    values |= {("x", "c"): [0.9, 0.8], ("y", "c"): [0.9, 0.8], ("z", "c"): [0.9, 0.8]}
    (ranking,) = rankings(runs_of(values), [AUROC], ["x", "y", "z"])
    assert list(ranking.scores.columns) == ["x", "y"], "z lacks categories and takes no part"


def test_two_settings_over_few_categories_are_told_to_have_no_chance() -> None:
    values = {(label, c): [0.9 - 0.1 * (label == "y"), 0.8] for label in ("x", "y") for c in "abcd"}
    (table,) = ranking_tables(rankings(runs_of(values), [AUROC], ["x", "y"]))
    assert "p = 0.125" in table.caption and "No Wilcoxon test of 4 categories can fall below 5 %" in table.caption

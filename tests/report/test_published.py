"""The papers' numbers: in themselves, against each other, and against what the papers say of them."""

import math

import pandas as pd
import pytest

from harness.report.published import PAPERS, load, sample_stds

COLUMNS = [
    *("table", "method", "setting", "dataset", "category", "defect", "metric", "unit"),
    *("value", "std", "n", "ddof", "over", "status", "note", "decimals"),
]
MEANS = {
    "Mean of textures": ["carpet", "grid", "leather", "tile", "wood"],
    "Mean of objects": [
        *("bottle", "cable", "capsule", "hazelnut", "metal_nut"),
        *("pill", "screw", "toothbrush", "transistor", "zipper"),
    ],
}
PLACE = ["table", "method", "setting", "dataset", "metric"]


@pytest.mark.parametrize("number", PAPERS)
def test_files_are_complete_and_consistent(number: str) -> None:
    paper = load(number)
    numbers = paper.numbers
    assert list(numbers.columns) == COLUMNS
    assert set(numbers["table"]) <= set(paper.facts["tables"])
    assert set(numbers["status"]) <= {"ok", "contradicted", "damaged", "impossible"}
    assert ((numbers["note"] != "") == (numbers["status"] != "ok")).all()
    assert not numbers.duplicated([*PLACE, "category", "defect"]).any()
    assert numbers.loc[numbers["value"].isna() & (numbers["metric"] != "image_size"), "status"].eq("damaged").all()
    assert set(paper.methods) <= set(numbers["method"])
    percent = numbers["unit"].eq("%") & numbers["value"].notna()
    assert numbers.loc[percent, "value"].between(0, 100).all()
    assert numbers.loc[numbers["unit"] == "fraction", "value"].between(0, 1).all()
    for table, facts in paper.facts["tables"].items():
        assert facts["source"] in ("readable", "damaged", "missing")
        if facts["source"] == "missing":
            assert table not in set(numbers["table"])


@pytest.mark.parametrize("number", PAPERS)
def test_mean_rows_follow_from_their_rows(number: str) -> None:
    """Within the rounding of what is printed; where they do not, the number is marked as contradicted."""
    numbers = load(number).numbers
    checked = 0
    for _, group in numbers[numbers["category"] != ""].groupby(PLACE, sort=False):
        rows = group[~group["category"].str.contains("Mean|Total")]
        for mean in group[group["category"].str.startswith("Mean")].to_dict("records"):
            own = rows[rows["category"].isin(MEANS.get(mean["category"], set(rows["category"])))]
            if len(own) < 2 or mean["status"] != "ok":
                continue
            slack = 10.0 ** -mean["decimals"] + 0.5 * float((10.0 ** -own["decimals"]).mean())
            assert own["value"].mean() == pytest.approx(mean["value"], abs=slack + 1e-9), mean
            checked += 1
    assert checked >= {"000": 30, "002": 15, "003": 30}.get(number, 0)


def test_deviations_of_mean_rows_are_of_the_population() -> None:
    """002: over the six categories, ddof 0; ddof 1 fits none."""
    numbers = load("002").numbers
    means = numbers[(numbers["category"] == "Mean") & numbers["std"].notna() & (numbers["status"] == "ok")]
    assert len(means) >= 15 and set(means["ddof"]) == {0.0} and set(means["n"]) == {6.0}
    for mean in means.to_dict("records"):
        rows = numbers[(numbers[PLACE] == [mean[key] for key in PLACE]).all(axis=1)]
        values = rows.loc[rows["category"] != "Mean", "value"]
        assert values.std(ddof=0) == pytest.approx(mean["std"], abs=0.11)
        assert abs(values.std(ddof=1) - mean["std"]) > abs(values.std(ddof=0) - mean["std"])


def test_counts_add_up() -> None:
    autovi = load("002").numbers.query("table == '3' and unit == 'images'")
    table = autovi.pivot(index="category", columns="metric", values="value")
    parts = table[["train_images", "test_good_images", "test_defective_images"]]
    assert (parts.sum(axis=1) == table["images"]).all()
    assert (table.drop(index="Total").sum() == table.loc["Total"]).all()
    labels = load("004").numbers.query("table in ['2', '10'] and unit == 'images'")
    for _, split in labels.groupby(["table", "setting"]):
        count = split.set_index("metric")["value"]
        assert count["good_images"] + count["defective_images"] == count["images"]
        assert count[["train_images", "validation_images", "test_images"]].sum() == count["images"]
    of_shavers = load("001").numbers.query("table == '1'").groupby("dataset")["value"].sum()
    assert of_shavers.to_dict() == {"deco_cap": 592, "shaft": 4249, "shavers": 3518}


def test_tables_that_repeat_each_other_agree() -> None:
    radl = load("000").numbers
    first = radl.query("table == '1' and setting == 'Setting C'").set_index(["category", "metric"])["value"]
    third = radl.query("table == '3' and method == 'RADL'").set_index(["category", "metric"])["value"]
    pd.testing.assert_series_equal(first.sort_index(), third.sort_index())
    autovi = load("002").numbers
    sixth = autovi.query("table == '6'").set_index(["method", "category"])["value"]
    twelfth = autovi.query("table == '12' and setting == '400x400'")
    assert len(twelfth) == 18
    for row in twelfth.itertuples():
        assert sixth[row.method, row.category] == row.value


def test_what_the_issue_knows_to_be_wrong_is_marked() -> None:
    cflow = load("002").numbers.query("table == '9' and method == 'CFlow' and category == 'tank_screw'")
    assert cflow[["value", "std", "status"]].to_numpy().tolist() == [[4.3, 16.1, "impossible"]]
    pixel = load("000").numbers.query("table == '1' and setting == 'Setting C' and category == 'Mean'")
    assert "97.5" in pixel.set_index("metric").loc["pixel_auroc", "note"]
    missing = {t for t, facts in load("002").facts["tables"].items() if facts["source"] != "readable"}
    assert {"1", "2", "4", "10", "13", "14"} <= missing


def test_a_printed_deviation_becomes_a_samples() -> None:
    assert sample_stds(2.0, 5, 1) == (2.0,)
    assert sample_stds(2.0, 5, 0) == pytest.approx((2.0 * math.sqrt(5 / 4),))
    assert sample_stds(2.0, 5, math.nan) == pytest.approx((2.0, 2.0 * math.sqrt(5 / 4)))
    assert sample_stds(math.nan, 5, 1) == sample_stds(2.0, 1, 1) == sample_stds(2.0, math.nan, 1) == ()

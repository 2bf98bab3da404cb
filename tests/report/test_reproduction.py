"""Ours beside the papers: what is compared with what, and the verdicts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from harness.report.__main__ import main
from harness.report.collect import collect
from harness.report.published import load
from harness.report.reproduction import Printed, as_printed, reproduction_tables, verdict_of, word
from harness.report.study import Study
from harness.report.tables import Table
from harness.schema import compose, flatten
from harness.stats import holm

MakeStore = Callable[[str], Any]
AUTOVI = ("engine_wiring", "pipe_clip", "pipe_staple", "tank_screw", "underbody_pipes", "underbody_screw")


def params_of(method: str, *overrides: str) -> dict[str, str]:
    """Return the parameters of a run of a method on a real data set."""
    config = compose([f"method={method}", "dataset=mvtec_ad", "trainer=default", *overrides])
    return {key: str(value) for key, value in flatten(config).items()}


def printed(table: str, method: str, category: str, paper: str = "002") -> Printed:
    numbers = load(paper).numbers
    rows = numbers[(numbers["table"] == table) & (numbers["method"] == method) & (numbers["category"] == category)]
    return as_printed(rows.to_dict("records")[0], numbers)


def tables_by_name(study: Study) -> dict[str, Table]:
    return {table.name: table for table in reproduction_tables(study)}


def test_verdicts() -> None:
    theirs = Printed(90.0, (0.3,), 8, 1)
    assert word(verdict_of([90.1, 89.8, 90.3, 90.0, 89.9], theirs), 1.0, 90.0) == "reproduced"
    far = verdict_of([80.1, 79.8, 80.3, 80.0, 79.9], theirs)
    assert word(far, far.pvalue, 90.0) == "different"
    assert word(far, 0.2, 90.0) == "undecided", "the corrected p counts"
    wide = verdict_of([85.0, 95.0, 88.0, 92.0], theirs)
    assert word(wide, wide.pvalue, 90.0) == "undecided"
    assert word(verdict_of([90.0], theirs), float("nan"), 90.0) == "one seed"
    without = Printed(90.0, (), 0, 1)
    assert word(verdict_of([90.1, 89.8, 90.3], without), float("nan"), 90.0) == "inside"
    assert word(verdict_of([80.1, 79.8, 80.3], without), float("nan"), 90.0) == "outside"


def test_an_unknown_ddof_is_read_both_ways_and_the_careful_figure_counts() -> None:
    values = [79.0, 79.5, 80.2, 79.7]
    both = verdict_of(values, Printed(79.0, (0.8, 0.8 * (8 / 7) ** 0.5), 8, 1))
    each = [verdict_of(values, Printed(79.0, (std,), 8, 1)) for std in (0.8, 0.8 * (8 / 7) ** 0.5)]
    assert both.pvalue == max(one.pvalue for one in each)
    assert both.tost == max(one.tost for one in each)
    assert (both.low, both.high) == (min(one.low for one in each), max(one.high for one in each))
    ours = stats.describe(values)
    expected = stats.ttest_ind_from_stats(ours.mean, ours.variance**0.5, 4, 79.0, 0.8, 8, equal_var=False)
    assert each[0].pvalue == pytest.approx(expected.pvalue)


def test_a_mean_over_categories_takes_its_deviation_from_their_runs() -> None:
    patchcore = printed("6", "Patchcore", "Mean")
    rows = [0.3, 0.9, 0.6, 0.7, 0.05, 0.1]  # 0.0 is printed for the pipes: half a unit of the last digit
    assert patchcore.value == 88.4 and patchcore.n == 8
    assert patchcore.stds[0] == pytest.approx(sum(std**2 for std in rows) ** 0.5 / 6)
    assert patchcore.stds[1] == pytest.approx(patchcore.stds[0] * (8 / 7) ** 0.5)


def test_fractions_become_percent() -> None:
    numbers = load("004").numbers
    row = numbers[
        (numbers["table"] == "17") & (numbers["setting"] == "baseline") & (numbers["metric"] == "image_auroc")
    ]
    found = as_printed(row.to_dict("records")[0], numbers)
    assert found.value == pytest.approx(99.8)
    assert found.stds == pytest.approx((0.2 * (5 / 4) ** 0.5,)), "ddof 0 becomes a sample's"


@pytest.fixture(scope="module")
def autovi(make_store: MakeStore) -> Study:
    """PatchCore as paper 002 has it, near its numbers, on all six categories; with augmentation; and PaDiM far off."""
    store = make_store("autovi")
    for method, name in (("patchcore_autovi", "Patchcore"), ("padim_autovi", "PaDiM")):
        for category in AUTOVI:
            theirs = printed("6", name, category).value / 100
            for seed in range(4):
                level = theirs + (0.001, -0.001, 0.0005, -0.0005)[seed] - (0.2 if name == "PaDiM" else 0.0)
                store.add(method, category, seed, dataset="autovi", level=level, params=params_of(method))
    for seed in range(2):
        rotated = params_of("patchcore_autovi", "augment=autovi")
        store.add("patchcore_autovi", "tank_screw", seed, dataset="autovi", level=0.85 + seed / 100, params=rotated)
        quick = params_of("patchcore_autovi", "method.num_neighbors=3")
        store.add("patchcore_autovi", "tank_screw", seed, dataset="autovi", level=0.5 + seed / 100, params=quick)
    return collect(store.uri)


def test_a_table_of_the_paper_is_set_beside_ours(autovi: Study) -> None:
    table = tables_by_name(autovi)["paper_002_table_6"]
    numbers = table.numbers.set_index(["label", "category"])
    assert len(numbers) == 14, "two methods, six categories and their mean"
    assert (numbers.loc["patchcore_autovi", "verdict"] == "reproduced").all()
    assert (numbers.loc["padim_autovi", "verdict"] == "different").all()
    assert numbers["holm"].to_numpy() == pytest.approx(holm(numbers["pvalue"]))
    row = numbers.loc[("padim_autovi", "tank_screw")]
    assert row["difference"] == pytest.approx(-20.0) and row["paper"] == 49.4 and row["n"] == 4
    assert "for the 14 tests of this table" in table.caption and "both readings" in table.caption
    assert "half a unit" in table.caption


def test_only_the_same_settings_are_compared(autovi: Study) -> None:
    tables = tables_by_name(autovi)
    augmented = tables["paper_002_table_11"].numbers
    assert list(augmented["label"].str.partition(" (")[0]) == ["patchcore_autovi"] and augmented["mean"][0] == 85.5
    assert "augment" in augmented["label"][0]
    for table in tables.values():
        assert not table.numbers["label"].str.contains("num_neighbors").any(), "the paper did not vary that"
    assert "paper_002_table_12" not in tables, "no window was cut"


def test_departures_from_the_papers_settings_are_told(make_store: MakeStore) -> None:
    store = make_store("departs")
    for seed in range(3):
        small = params_of(
            "radl", "preprocess.size=128", "trainer.max_epochs=10", "method.loss=truncated_l1", "method.fdfa=false"
        )
        store.add("radl", "bottle", seed, dataset="mvtec_ad", level=0.99 + seed / 1000, params=small)
    tables = tables_by_name(collect(store.uri))
    assert set(tables) == {"paper_000_table_1"}, "Setting A; Table 3 has the full method, which was not run"
    caption = tables["paper_000_table_1"].caption
    assert "epochs=10 (40), preprocess.size=128 (256)" in caption
    assert "loss" not in caption.partition("depart")[2], "what the paper varied is no departure"
    assert set(tables["paper_000_table_1"].numbers["verdict"]) <= {"inside", "outside"}
    assert "no test is possible" in tables["paper_000_table_1"].caption


def test_other_data_are_not_compared(grid: Any) -> None:
    assert reproduction_tables(collect(grid.uri, "study")) == []


def test_the_command_writes_it(autovi: Study, tmp_path: Path) -> None:
    uri = autovi.store
    assert (
        main([f"tracking.uri={uri}", f"reports_dir={tmp_path}", "filter=tags.harness.method = 'patchcore_autovi'"]) == 2
    )
    page = (tmp_path / "all" / "report.md").read_text(encoding="utf-8")
    assert "## Against the papers" in page and "### Paper 002, Table 6" in page
    trace = json.loads((tmp_path / "all" / "provenance.json").read_text(encoding="utf-8"))
    cell = trace["tables"]["paper_002_table_6"]["autovi/tank_screw"]["patchcore_autovi"]
    assert cell["paper"] == 89.3 and cell["verdict"] == "reproduced" and len(cell["run_ids"]) == 4

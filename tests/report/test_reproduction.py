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


def said(values: list[float], theirs: Printed) -> str:
    verdict = verdict_of(values, theirs)
    return word(verdict, verdict.pvalue, verdict.tost)


def test_verdicts() -> None:
    theirs = Printed(90.0, (0.3,), 8, 1)
    assert said([90.1, 89.8, 90.3, 90.0, 89.9], theirs) == "reproduced"
    assert said([80.1, 79.8, 80.3, 80.0, 79.9], theirs) == "different"
    assert said([90.5, 90.6, 90.55, 90.6, 90.5], Printed(90.0, (0.1,), 8, 1)) == "different, by less than 1"
    assert said([85.0, 95.0, 88.0, 92.0], theirs) == "undecided"
    far = verdict_of([80.1, 79.8, 80.3, 80.0, 79.9], theirs)
    assert word(far, 0.2, 0.2) == "undecided", "the corrected p counts"


def test_verdicts_without_a_printed_deviation_are_about_one_further_run() -> None:
    without = Printed(90.0, (), 0, 1)
    assert said([90.0], Printed(90.0, (0.3,), 8, 1)) == said([90.0], without) == "one seed"
    assert said([90.1, 89.8, 90.3], without) == "inside"
    assert said([80.1, 79.8, 80.3], without) == said([60.0, 50.0, 55.0], without) == "outside"
    assert said([60.0, 99.0, 75.0], without) == "too noisy", "an interval that holds everything is no agreement"
    low, high = verdict_of([90.1, 89.8, 90.3], without)[1:3]
    half = stats.t.ppf(0.975, 2) * 0.25166114784235816 * (4 / 3) ** 0.5
    assert (low, high) == pytest.approx((90.0666667 - half - 90, 90.0666667 + half - 90))


def test_an_impossible_deviation_is_not_used() -> None:
    assert printed("9", "CFlow", "tank_screw").stds == ()
    assert printed("9", "CFlow", "Mean").stds == (), "nor for the mean that rests on it"


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
        window = params_of("patchcore_autovi", "preprocess=window", "preprocess.window=[400,400]")
        store.add("patchcore_autovi", "pipe_staple", seed, dataset="autovi", level=0.925 + seed / 100, params=window)
        quick = params_of("patchcore_autovi", "method.num_neighbors=3")
        store.add("patchcore_autovi", "tank_screw", seed, dataset="autovi", level=0.5 + seed / 100, params=quick)
    return collect(store.uri)


def test_a_table_of_the_paper_is_set_beside_ours(autovi: Study) -> None:
    table = tables_by_name(autovi)["paper_002_table_6"]
    numbers = table.numbers[~table.numbers["departs"]].set_index(["label", "category"])
    assert len(numbers) == 14, "two methods, six categories and their mean"
    assert numbers.loc["patchcore_autovi", "verdict"].value_counts().to_dict() == {"reproduced": 6, "undecided": 1}
    assert (numbers.loc["padim_autovi", "verdict"] == "different").all()
    for raw, corrected in (("pvalue", "holm"), ("tost", "tost_holm")):
        assert table.numbers[corrected].to_numpy() == pytest.approx(holm(table.numbers[raw]))
    as_in_the_paper = {row.label: row.cells[1] for row in table.rows if row.more[0] == "patchcore_autovi"}
    cell = as_in_the_paper["underbody_pipes"]
    assert cell is not None and (cell.mean, cell.std) == ("99.8", "0.0"), "printed as the paper prints it"
    assert (as_in_the_paper["Mean"].mean, as_in_the_paper["Mean"].std) == ("88.4", "10.1")
    row = numbers.loc[("padim_autovi", "tank_screw")]
    assert row["difference"] == pytest.approx(-20.0) and row["paper"] == 49.4 and row["n"] == 4
    assert "for the 15 tests of this table" in table.caption and "both readings" in table.caption
    assert "half a unit" in table.caption


def test_only_the_same_settings_are_compared(autovi: Study) -> None:
    tables = tables_by_name(autovi)
    augmented = tables["paper_002_table_11"].numbers
    assert list(augmented["label"].str.partition(" (")[0]) == ["patchcore_autovi"] and augmented["mean"][0] == 85.5
    assert "augment" in augmented["label"][0]
    departing = tables["paper_002_table_6"].numbers.query("departs")
    assert departing["label"].str.contains("num_neighbors").all() and len(departing) == 1, "told, not hidden"
    assert (
        "*: ours depart" in tables["paper_002_table_6"].caption
        and "num_neighbors=3 (9)" in tables["paper_002_table_6"].caption
    )
    windows = tables["paper_002_table_12"].numbers
    assert windows["paper_method"].tolist() == ["Patchcore 400x400"] and windows["mean"][0] == pytest.approx(93.0)


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
    assert all(row.cells[-1].note == "*" for row in tables["paper_000_table_1"].rows if row.cells[-1])
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


def test_temperatures_are_those_of_setting_b(make_store: MakeStore) -> None:
    store = make_store("tau")
    for tau in ("1.0", "0.5"):
        for seed in range(2):
            own = params_of("radl_b", f"method.tau={tau}")
            store.add("radl", "bottle", seed, dataset="mvtec_ad", level=0.99, params=own)
    tables = tables_by_name(collect(store.uri))
    assert tables["paper_000_table_1"].numbers["paper_method"].unique().tolist() == ["Baseline + HCELoss Setting B"]
    assert "paper_000_table_2" not in tables, "Table 2 has means over all fifteen categories only"

"""The command from end to end: exit codes, files, and numbers that trace back to MLflow."""

import errno
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.data.download import FETCHERS
from harness.report.__main__ import main
from harness.report.build import expected_cells
from harness.report.options import ReportOptions


@pytest.fixture(scope="module")
def report(grid: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    assert main(["experiment=study", f"tracking.uri={grid.uri}", f"reports_dir={folder}"]) == 0
    return folder / "study"


def test_files(report: Path) -> None:
    page = (report / "report.md").read_text(encoding="utf-8")
    assert "# Report: study" in page
    assert "### Image AUROC" in page
    assert "**95.1 ± 0.5**" in page
    assert "### Oracle optimism of image AUROC" in page
    assert "radl without a suffix means fdfa=true, loss=hce" in page
    for name in ("image_auroc", "pixel_auroc", "aupro", "recall_at_precision_99.6", "time_train", "memory_peak"):
        assert (report / "tables" / f"{name}.tex").is_file()
        assert (report / "tables" / f"{name}.csv").is_file()
    for link in ("figures/epochs_toy.png", "figures/epochs_toy.pdf", "provenance.json", "tables/aupro.tex"):
        assert f"({link})" in page
        assert (report / link).is_file()


def test_every_number_traces_to_its_runs(report: Path, grid: Any) -> None:
    trace = json.loads((report / "provenance.json").read_text(encoding="utf-8"))
    cells = trace["tables"]["image_auroc"]
    assert set(cells) == {"toy/texture", "toy/missing_part", "toy/50%_<b>|edge & #1", "toy (Mean)"}
    for row, columns in cells.items():
        if row.endswith("(Mean)"):
            assert len(columns["patchcore"]["run_ids"]) == 9
            continue
        for column, number in columns.items():
            runs = [grid.client.get_run(run_id) for run_id in number["run_ids"]]
            values = [100 * run.data.metrics["test/image_auroc"] for run in runs]
            assert number["n"] == len(values) == 3
            assert number["mean"] == pytest.approx(statistics.mean(values))
            assert number["std"] == pytest.approx(statistics.stdev(values))
            assert {run.data.tags["harness.method"] for run in runs} == {column.partition(" ")[0]}
            assert all(trace["runs"][run.info.run_id]["run_key"] == run.data.tags["harness.run_key"] for run in runs)
    lines = trace["figures"]["epochs_toy"]["radl"]["train/loss"]
    assert len(lines["texture"]) == 3
    assert trace["command"].startswith("python -m harness.report experiment=study")
    table = pd.read_csv(report / "tables" / "image_auroc.csv")
    assert len(table) == 12


def test_the_same_store_gives_the_same_report(report: Path, grid: Any, tmp_path: Path) -> None:
    main(["experiment=study", f"tracking.uri={grid.uri}", f"reports_dir={tmp_path}"])
    for name in ("tables/image_auroc.tex", "tables/aupro.csv", "figures/epochs_toy.pdf", "figures/epochs_toy.png"):
        assert (tmp_path / "study" / name).read_bytes() == (report / name).read_bytes()


def test_wanted_metrics_leave_no_stale_table(grid: Any, tmp_path: Path) -> None:
    command = ["experiment=study", f"tracking.uri={grid.uri}", f"reports_dir={tmp_path}"]
    assert main([*command, "tables=[image_auroc,aupro]"]) == 0
    (tmp_path / "study" / "tables" / "mine.txt").touch()
    assert main([*command, "tables=[aupro]"]) == 0
    assert sorted(p.name for p in (tmp_path / "study" / "tables").iterdir()) == ["aupro.csv", "aupro.tex", "mine.txt"]


def test_a_hole_is_flagged_and_named(
    make_store: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store("cli_hole")
    for method, category, seed in (("radl", "x", 0), ("radl", "x", 1), ("padim", "x", 0)):
        store.add(method, category, seed, epochs=2)
    command = [f"tracking.uri={store.uri}", f"reports_dir={tmp_path}"]
    assert main([*command, "strict=true"]) == 2
    assert "padim / toy / x / seed 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(command) == 2
    page = (tmp_path / "all" / "report.md").read_text(encoding="utf-8")
    assert "Incomplete: 1 cell of the grid has no finished run" in page
    assert "> - padim / toy / x / seed 1" in page
    assert "90.0 †" in page


def test_one_memory_bank_run_reports_without_test_or_figure(make_store: Callable[[str], Any], tmp_path: Path) -> None:
    store = make_store("cli_one")
    store.add("padim", "x", 0)
    assert main([f"tracking.uri={store.uri}", f"reports_dir={tmp_path}"]) == 0
    page = (tmp_path / "all" / "report.md").read_text(encoding="utf-8")
    assert "no test, nothing in bold" in page
    assert "| **" not in page
    assert "![" not in page


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["experimnt=x"], "experimnt"),
        (["tracking.url=x"], "url"),
        (["strict=maybe"], "maybe"),
        (["study"], "'study' is no option of the report: write key=value"),
        (["experiment=study", "tracking.uri=sqlite:///nowhere/mlflow.db"], "There is no MLflow store at"),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_fails_leaves_the_older_one(
    grid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["experiment=study", f"tracking.uri={grid.uri}", f"reports_dir={tmp_path}", "tables=[aupro]"]
    assert main(command) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("harness.report.build.html", full)
    capsys.readouterr()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "cannot be written to" in error and "No space left" in error and len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "tracking.uri" in capsys.readouterr().out


def test_report_runs_without_torch(grid: Any, tmp_path: Path) -> None:
    code = (
        "import sys; from harness.report.__main__ import main; "
        f"code = main(['experiment=study', 'tracking.uri={grid.uri}', 'tables=[aupro]']); "
        "sys.exit(code or 9 * ('torch' in sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(Path("reports/study/index.html"))
    assert result.stderr == ""


def test_runs_for_times_stand_apart(make_store: Callable[[str], Any], tmp_path: Path) -> None:
    """Measured once a method, they make no hole, count in no accuracy and have tables of their own."""
    store = make_store("timing")
    for method in ("radl", "patchcore"):
        for seed in range(2):
            store.add(method, "x", seed, level=0.9 + seed / 100, tags={"features": "cached"})
        store.add(method, "x", 0, timing=True, tags={"features": "computed"})
    assert main(["experiment=study", f"tracking.uri={store.uri}", f"reports_dir={tmp_path}"]) == 0
    trace = json.loads((tmp_path / "study" / "provenance.json").read_text(encoding="utf-8"))
    assert trace["holes"] == []
    assert [warning for warning in trace["warnings"] if "scores.parquet" not in warning] == []
    assert trace["tables"]["image_auroc"]["toy/x"]["radl"]["n"] == 2
    latency = trace["tables"]["timing_latency_median"]["toy/x"]["radl"]
    assert (latency["mean"], latency["n"]) == (pytest.approx(12.0), 1)
    page = (tmp_path / "study" / "report.md").read_text(encoding="utf-8")
    assert "4 runs read stored ones" in page and "2 runs with timing=true" in page


def test_a_report_downloads_no_images_for_its_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object) -> None:
        raise AssertionError("the report has downloaded")

    monkeypatch.setitem(FETCHERS, "autovi", fetch)
    given = ["dataset=autovi", "dataset.download=true", f"dataset.root={tmp_path}/autovi"]
    cells, (note,) = expected_cells(ReportOptions(experiment="autovi", overrides=given))
    assert cells is None
    assert f"images of autovi will be downloaded into {tmp_path}/autovi" in note
    assert not list(tmp_path.iterdir())

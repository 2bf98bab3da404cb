"""The audit: it finds a method that does not reproduce, and no fault in those that do."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import pytest
from commands import run_command

from harness.audit.__main__ import main
from harness.audit.comparison import AFTER, AGAIN, FIRST, SCORES, THREADS, Audited, Compared, differences
from harness.audit.page import show
from harness.choices import CONF_DIR
from harness.entry import call
from harness.terminal import console

SMALL = ["preprocess.size=32", "metrics.heatmaps=0", "trainer.device=cpu"]
METHODS = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml"))
REPORTS = Path(__file__).parents[1] / "reports" / "determinism"
MADE = "Made by `HARNESS_DETERMINISM_REPORT=1 nox -s determinism`."
FLAKY = """
import os
import torch
from harness.models.padim import Padim

class Flaky(Padim):
    def fit(self):
        super().fit()
        chance = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))
        self.model.gaussian.mean += 0.01 * torch.rand(self.model.gaussian.mean.shape, generator=chance)
"""


def test_a_method_that_leaves_something_to_chance_is_found(
    tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_methods.py").write_text(FLAKY)
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "flaky.yaml").write_text(
        "defaults: [padim, _self_]\nname: flaky\nmodel: own_methods.Flaky\n"
    )
    files = ["--json", "audit.json", "--csv", "audit.csv", "--markdown", "audit.md"]
    assert main(["--config-dir", "conf", "method=padim,flaky,nope", f"dataset.root={toy_root}", *SMALL, *files]) == 1
    sound, flaky, absent = json.loads((tmp_path / "audit.json").read_text())
    assert (sound["run"], flaky["run"]) == ("method=padim", "method=flaky")
    assert sound["faults"] == []
    for comparison in sound["comparisons"]:
        assert {"test/image_auroc", "test/aupro", "oracle/image_ap", SCORES} <= comparison["differences"].keys()
        if comparison["must_agree"]:
            assert set(comparison["differences"].values()) == {0.0}
    assert len(sound["comparisons"]) == 7
    assert {"again", "features read", "other process", "2 loader workers", "after another run"} <= set(flaky["faults"])
    again = next(c["differences"] for c in flaky["comparisons"] if c["with"] == "again")
    assert 0 < again[SCORES] < 1
    shown = capsys.readouterr().out
    assert any("method=flaky" in line and SCORES in line for line in shown.splitlines())
    assert "1 of 3 runs are exact wherever they should be, on cpu: " in shown
    assert absent["faults"] == ["first run"] and "method=nope" in absent["comparisons"][0]["note"]
    rows = list(csv.DictReader((tmp_path / "audit.csv").open()))
    assert {row["comparison"] for row in rows} == {comparison["with"] for comparison in sound["comparisons"]}
    table = [line.split(" | ") for line in (tmp_path / "audit.md").read_text().splitlines() if line.startswith("| ")]
    assert [row[0] for row in table] == ["| run", "| method=padim", "| method=flaky", "| method=nope"]
    assert table[1][1:7] == ["exact"] * 6 and table[2][1] == f"{max(again.values()):.1e}"
    assert not (tmp_path / "runs").exists()


def test_differences_are_the_largest_over_epochs_and_images() -> None:
    first = {"a": {"0": 0.5, "1": 0.25}, "nan": {"0": math.nan}, "inf": {"0": math.inf}, "epochs": {"0": 1.0}}
    other = {"a": {"0": 0.5, "1": 0.5}, "nan": {"0": math.nan}, "inf": {"0": math.inf}, "epochs": {}}
    expected = {"a": 0.25, "nan": 0.0, "inf": 0.0, "epochs": math.inf}
    assert differences(first, other) == expected
    assert differences({"a": {"0": math.nan}}, {"a": {"0": 1.0}, "b": {"0": 1.0}}) == {"a": math.inf, "b": math.inf}


@pytest.mark.parametrize(
    ("device", "circumstance", "gap", "failed", "fault"),
    [
        ("cpu: A", AGAIN, 0.0, False, False),
        ("cpu: A", AGAIN, 1e-16, False, True),
        ("cpu: A", THREADS, 0.1, False, False),
        ("NVIDIA B", AFTER, 0.1, False, False),
        ("NVIDIA B", AFTER, 0.0, True, True),
        ("cpu: A", THREADS, 0.0, True, True),
    ],
)
def test_what_counts_as_a_fault(device: str, circumstance: object, gap: float, failed: bool, fault: bool) -> None:
    compared = Compared(circumstance, {"test/aupro": gap}, failed=failed)  # type: ignore[arg-type]
    assert bool(Audited("a", device, {circumstance: compared}).faults) == fault  # type: ignore[dict-item]


def test_the_conclusion_counts_what_was_audited(capsys: pytest.CaptureFixture[str]) -> None:
    refused = Audited("a", "", {FIRST: Compared(FIRST, note="There is no such method.", failed=True)})
    show([refused], console())
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "a: first run failed: There is no such method.",
        "No run could be audited.",
    ]
    show([Audited("a", "cpu: A", {AGAIN: Compared(AGAIN)})], console())
    assert "1 of 1 run is exact wherever it should be, on cpu: A." in capsys.readouterr().out


@pytest.mark.parametrize("argument", ["nonsense", "tracking.directory=x", "--strange"])
def test_a_mistake_is_told(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(main, "harness.audit", [argument]) == 1
    assert argument in capsys.readouterr().err


@pytest.mark.determinism
@pytest.mark.parametrize(("size", "large"), [(64, False), (128, True)])
def test_every_method_is_exact_on_a_cpu(size: int, large: bool, tmp_path: Path, toy_root: Path) -> None:
    methods = [method for method in METHODS if method.startswith("efficient_ad") == large]  # not below 128 pixels
    arguments = [f"method={','.join(methods)}", "quick=true", f"preprocess.size={size}", "metrics.heatmaps=0"]
    arguments += ["trainer.device=cpu", f"dataset.root={toy_root}", "--json", "audit.json", "--markdown", "audit.md"]
    done = run_command(arguments, "harness.audit", cwd=tmp_path, fresh=True, timeout=4 * 3600)
    if os.environ.get("HARNESS_DETERMINISM_REPORT"):
        REPORTS.mkdir(parents=True, exist_ok=True)
        head = f"# Does every method reproduce itself? Toy data at {size} px, one epoch\n\n{MADE}\n\n"
        (REPORTS / f"size_{size}.md").write_text(head + (tmp_path / "audit.md").read_text())
    told = json.loads((tmp_path / "audit.json").read_text())
    assert {one["run"]: one["faults"] for one in told} == {f"method={method}": [] for method in methods}, done.stdout
    assert done.returncode == 0

"""`harness.report explain` says how a number came to be."""

import re
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from harness.report.__main__ import main


def test_a_number_is_traced_to_its_runs(grid: Any, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "method=patchcore category=texture metric=image_auroc"
    assert main(["explain", asked, "experiment=study", f"tracking.uri={grid.uri}"]) == 0
    text = capsys.readouterr().out
    ids = re.findall(r"run ([0-9a-f]{32}) \(key (key\d+)\)", text)
    runs = [grid.client.get_run(run_id) for run_id, _ in ids]
    assert len(runs) == 3 and {run.data.tags["harness.category"] for run in runs} == {"texture"}
    assert [run.data.tags["harness.run_key"] for run in runs] == [key for _, key in ids]
    values = [100 * run.data.metrics["test/image_auroc"] for run in runs]
    first = text.splitlines()[0]
    expected = f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} %"
    assert first == f"patchcore / toy / texture: Image AUROC = {expected}"
    assert "sample standard deviation (ddof 1)" in text and "method.coreset_sampling_ratio=0.1" in text
    assert re.search(r"radl: [\d.]+ ± [\d.]+, p = 0\.\d{6}", text)
    assert "weights: random:0123" in text


def test_a_variant_and_a_mean(grid: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["experiment=study", f"tracking.uri={grid.uri}"]
    asked = ["method=radl (fdfa=false, loss=truncated_l1)", "category=Mean", "metric=aupro"]
    assert main(["explain", *asked, *command]) == 0
    text = capsys.readouterr().out
    assert "Runs (9):" in text and "Within each seed the categories are averaged" in text


def test_another_method_is_not_the_only_one(
    make_store: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store("explain")
    for seed in range(2):
        store.add("padim", "x", seed)
    for asked, code in (("method=patchcore", 1), ("method=padim", 0)):
        assert main(["explain", f"{asked} category=x", f"tracking.uri={store.uri}"]) == code
    printed = capsys.readouterr()
    assert "There is no method=patchcore; possible are: padim." in printed.err
    assert "Nothing to test it against." in printed.out and "seed differs: 0, 1" in printed.out


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["category=texture"], "explain needs to know the method"),
        (["method=nope category=texture"], "There is no method=nope; possible are: patchcore, radl, radl (fdfa="),
        (["method=patchcore"], "Say which category; possible are: "),
        (["method=patchcore category=nope"], "There is no category=nope"),
        (["method=patchcore category=texture metric=nope"], "No run has the metric nope"),
        (["nonsense"], "'nonsense' is no key=value"),
    ],
)
def test_a_question_without_an_answer(
    asked: list[str], expected: str, grid: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *asked, "experiment=study", f"tracking.uri={grid.uri}"]) == 1
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1

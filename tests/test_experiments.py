"""Every experiment of the papers: it composes as the paper has it, and runs and reports in its smallest form."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import run_command
from omegaconf import DictConfig, OmegaConf

from harness.choices import CONF_DIR
from harness.grid import Cell, expand
from harness.schema import compose, validate

EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml") if path.stem != "adhoc")
AUTOVI = ["dataset=autovi", "dataset.root=nowhere"]


def cells_of(experiment: str, *overrides: str) -> list[Cell]:
    return expand([f"experiment={experiment}", *overrides], compose)


def configs_of(experiment: str, *overrides: str) -> list[DictConfig]:
    return [compose(cell.overrides) for cell in cells_of(experiment, *overrides)]


def covering(cells: list[Cell]) -> list[Cell]:
    """Return few of the cells in which every override of all of them occurs."""
    seen: set[str] = set()
    chosen = []
    for cell in cells:
        if not set(cell.overrides) <= seen:
            chosen.append(cell)
            seen |= set(cell.overrides)
    return chosen


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_cell_means_something(experiment: str, toy_root: Path) -> None:
    data = AUTOVI if experiment == "autovi_window" else [f"dataset.root={toy_root}"]
    found = cells_of(experiment, "seed=0", *data)
    assert found and not any(cell.problem for cell in found)
    for cell in covering(found):
        config = compose(cell.overrides)
        validate(config)
        OmegaConf.to_container(config, resolve=True)
        assert config.experiment == experiment


def _count(experiment: str, *overrides: str) -> int:
    return len(cells_of(experiment, *overrides))


def test_grids_have_the_sizes_of_the_papers(toy_root: Path) -> None:
    toy = f"dataset.root={toy_root}"  # three categories
    assert _count("autovi", toy) == 6 * 3 * 8
    assert _count("autovi_augmentation", toy) == 2 * 6 * 3 * 8
    assert _count("autovi_window", *AUTOVI) == 6 * (3 + 3 + 3) * 8  # Table 12: three windows of three categories
    assert sum(cell.needs is not None for cell in cells_of("autovi_window", *AUTOVI)) == 6 * (1 + 1 + 2) * 8
    assert _count("map_assisted", toy) == 3 * (3 * 2 * 4 * 10)  # of each category
    assert _count("radl_tau", toy) == 4 * 3 * 8
    ablations = ("vin_skip_ganomaly", "vin_padim", "vin_patchcore")
    rows = {"vin_skip_ganomaly": 9, "vin_padim": 4 * 7, "vin_patchcore": 9}  # Tables 12 to 17
    assert {name: _count(name) for name in ablations} == {name: count * 5 for name, count in rows.items()}


def _varied(experiment: str, keys: dict[str, Callable[[DictConfig], Any]], *overrides: str) -> Counter[tuple[Any, ...]]:
    return Counter(
        tuple(read(config) for read in keys.values()) for config in configs_of(experiment, "seed=0", *overrides)
    )


def test_ablations_of_paper_004_change_one_setting_of_the_baseline_at_a_time() -> None:
    """Table 17, on real data."""
    data = ["dataset=folder", "dataset.root=nowhere", "category=labels"]
    keys = {
        "size": lambda c: c.preprocess.size,
        "test": lambda c: c.protocol.test,
        "ratio": lambda c: c.method.coreset_sampling_ratio,
        "k": lambda c: c.method.num_neighbors,
    }
    base = (256, 0.15, 0.01, 3)
    rows = {(208, *base[1:]), (304, *base[1:]), (256, 0.1, 0.01, 3), (256, 0.2, 0.01, 3)}
    rows |= {(256, 0.15, 0.1, 3), (256, 0.15, 0.25, 3), (256, 0.15, 0.01, 1), (256, 0.15, 0.01, 5)}
    assert _varied("vin_patchcore", keys, *data) == Counter({base, *rows})
    for config in configs_of("vin_patchcore", "seed=0", *data):
        assert (config.protocol.name, config.dataset.rotation) == ("validated", "rotation")
        assert config.dataset.select == {"layout": "rest_of_world"}


def test_padims_embeddings_are_those_of_tables_13_to_16() -> None:
    data = ["dataset=folder", "dataset.root=nowhere", "category=labels"]
    found: dict[str, set[int]] = {}
    for config in configs_of("vin_padim", "seed=0", *data):
        found.setdefault(config.backbone.name.partition(".")[0], set()).add(config.method.n_features)
    assert found == {
        "efficientnet_b5": {344, 258, 172},
        "resnet18": {448, 336, 224},
        "resnet50": {550, 412, 275},
        "wide_resnet50_2": {550, 412, 275},
    }


def test_conditions_of_paper_004() -> None:
    """Tables 5 to 8; of stationary (in grey) and mobile cameras the normal labels, with all damaged ones (Table 10)."""
    keys = {
        "normals": lambda c: str(c.dataset.normals),
        "select": lambda c: str(c.dataset.select),
        "grey": lambda c: c.preprocess.grey,
    }
    found = _varied("vin_conditions", keys, "method=patchcore_vin")
    assert set(found) == {
        ("None", "None", False),
        ("{'camera': 'stationary'}", "None", True),
        ("{'camera': 'mobile'}", "None", False),
        ("None", "{'layout': 'rest_of_world'}", False),
    }


def test_tau_is_varied_on_setting_b(toy_root: Path) -> None:
    configs = configs_of("radl_tau", "seed=0", "category=granite_tile", f"dataset.root={toy_root}")
    assert [config.method.tau for config in configs] == [1.0, 0.5, 0.25, 0.1]
    assert {(config.method.loss, config.method.fdfa) for config in configs} == {("hce", False)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, toy_root: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """All experiments with quick=true in one process: importing torch takes longer than most of them.

    But for `methods`: each method through the command's path is in tests/models/test_contract.py.
    """
    folder = tmp_path_factory.mktemp("experiments")
    chosen = [experiment for experiment in EXPERIMENTS if experiment != "methods"]
    arguments = ["-m", f"experiment={','.join(chosen)}", "quick=true", f"dataset.root={toy_root}"]
    return folder, run_command(arguments, cwd=folder, timeout=1200)


def test_all_experiments_run_quick(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = ran
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "1 not possible with these images" in done.stdout
    assert "It needs images of 4096×4096 pixels." in " ".join(done.stdout.split())


# Of each kind of table one, and one whole report with its figures, which takes as long as some experiments.
REPORTED = {
    "autovi_few_shot": ["tables=[image_auroc]"],
    "autovi_window": [],
    "map_assisted": ["tables=[image_auroc,defect_dent_correct_class_recall]"],
    "radl_speed": ["tables=[timing_latency_median]"],
    "vin_conditions": ["tables=[image_auroc]"],
}


@pytest.mark.parametrize("experiment", REPORTED)
def test_an_experiment_reports_without_a_hole(
    experiment: str,
    ran: tuple[Path, subprocess.CompletedProcess[str]],
    toy_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from harness.report.__main__ import main

    monkeypatch.chdir(ran[0])
    code = main([f"experiment={experiment}", "quick=true", f"dataset.root={toy_root}", *REPORTED[experiment]])
    assert code == 0, capsys.readouterr().err
    folder = ran[0] / "reports" / experiment
    page = (folder / "report.md").read_text()
    trace = json.loads((folder / "provenance.json").read_text())
    assert trace["holes"] == [] and len(trace["runs"]) > 1
    if experiment == "radl_speed":
        assert "Inference time of an image, median" in page
        return
    frame = pd.read_csv(folder / "tables" / "image_auroc.csv")
    assert frame["mean"].notna().all()
    if experiment == "autovi_window":
        assert "Not possible with the public data" in page and "images of 4096×4096 pixels" in page
        places = ("setting_", "curves_", "scores_", "gallery_", "mistakes_", "tradeoff_")
        drawn = [path.name for path in (folder / "figures").glob("*.png")]
        assert all(any(name.startswith(place) for name in drawn) for place in places), drawn
        assert "data:image/png" in (folder / "index.html").read_text()
    if experiment == "autovi_few_shot":
        assert frame["method"].nunique() == 7
    if experiment == "map_assisted":
        assert set(frame["unit"]) == {"fold"}
        assert "Correct-class recall of dent" in page
    if experiment == "vin_conditions":
        assert frame["dataset"].nunique() == 4

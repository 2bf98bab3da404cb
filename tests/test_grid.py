"""What the user asks for becomes the cells that run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.grid import expand, expected_cells, require_single, split_launcher
from harness.schema import compose


def cells(*arguments: str) -> list[tuple[str, ...]]:
    return [cell.overrides for cell in expand(arguments, compose)]


def test_ranges_lists_and_choices_are_axes_of_a_product() -> None:
    expected = [(f"method={m}", f"seed={s}") for m in ("radl", "patchcore") for s in range(3)]
    assert cells("method=radl,patchcore", "seed=range(3)") == expected
    assert cells("method=[radl,patchcore]", "seed=[0,1,2]") == expected


def test_the_command_of_the_readme_is_sixteen_runs() -> None:
    assert len(cells("method=radl,patchcore", "seed=range(8)")) == 16


def test_all_categories_become_cells_of_their_own(toy_root: Path) -> None:
    found = cells("category=all", "seed=0,1", f"dataset.root={toy_root}")
    names = {override for cell in found for override in cell if override.startswith("category=")}
    assert names == {"category=bolted_plate", "category=conveyor_rail", "category=granite_tile"}
    assert len(found) == 6


def test_lists_that_are_values_stay_values() -> None:
    assert cells("method.layers=[layer1,layer2]") == [("method.layers=[layer1,layer2]",)]


def test_the_command_line_narrows_an_experiment(toy_root: Path) -> None:
    found = cells("experiment=radl_settings", "seed=0", "category=granite_tile", f"dataset.root={toy_root}")
    assert {cell[1] for cell in found} == {"method=radl_a", "method=radl_b", "method=radl"}
    assert all("seed=0" in cell and cell[0] == "experiment=radl_settings" for cell in found)
    assert len(found) == 3


def test_doubles_run_once() -> None:
    assert cells("seed=0,0,1") == [("seed=0",), ("seed=1",)]


def test_a_cell_that_cannot_be_named_says_why_and_leaves_the_others(tmp_path: Path) -> None:
    place = [f"dataset.root={tmp_path}/nowhere", f"tracking.directory={tmp_path}"]
    found = expand(["dataset=folder,mvtec_ad", *place, "category=all,bottle"], compose)
    problems = [cell.problem for cell in found if "category=bottle" not in cell.overrides]
    assert len(found) == 4
    assert all(problem and "nowhere" in problem for problem in problems)
    assert all(cell.problem is None for cell in found if "category=bottle" in cell.overrides)


@pytest.mark.parametrize(
    "arguments",
    [["seed=range(8)"], ["category=a,b"], ["category=[a,b]"], ["category=all"], ["seed=[0,1]"]],
)
def test_several_runs_without_m_are_refused_with_the_remedy(arguments: Sequence[str]) -> None:
    with pytest.raises(ConfigError, match="add -m") as caught:
        require_single(arguments)
    assert arguments[0] in str(caught.value)


def test_one_run_is_not_refused() -> None:
    require_single(["seed=3", "method=padim", "method.layers=[layer1,layer2]"])


def test_the_launcher_is_no_axis_of_a_grid() -> None:
    assert cells("launcher=local", "launcher.jobs=4", "seed=0,1") == [("seed=0",), ("seed=1",)]
    assert split_launcher(["seed=0,1", "launcher=local"]) == (["seed=0,1"], ["launcher=local"])
    setup = 'launcher.setup=["module load cuda", "export HF_HUB_OFFLINE=1"]'  # a list, and no sweep
    assert split_launcher(["seed=0,1", setup]) == (["seed=0,1"], [setup])


@pytest.mark.parametrize("argument", ["launcher=serial,local", "launcher=[serial,local]", "launcher.jobs=1,2"])
def test_several_launchers_are_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match="one launcher") as caught:
        expand([argument], compose)
    assert argument in str(caught.value)
    with pytest.raises(ConfigError, match="one launcher"):
        require_single([argument])


def test_a_launcher_in_a_grid_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    grids = "grids:\n  - {launcher: [serial, local]}\n"
    (tmp_path / "experiment" / "both.yaml").write_text(f"# @package _global_\nexperiment: both\n{grids}")
    with pytest.raises(ConfigError, match="one launcher"):
        expand(["experiment=both", f"hydra.searchpath=[{tmp_path.as_uri()}]"], compose)


def test_an_experiment_tells_its_cells_to_the_report(toy_root: Path) -> None:
    found = expected_cells("radl_settings", ["seed=0,1", f"dataset.root={toy_root}"])
    assert found is not None
    assert len({cell["run_key"] for cell in found}) == len(found) == 3 * 3 * 2
    assert {cell["method"] for cell in found} == {"radl", "radl_a", "radl_b"}
    assert expected_cells("adhoc") is None


def test_cells_of_the_report_do_not_inherit_a_seed(tmp_path: Path, toy_root: Path) -> None:
    """The second grid names no seed: its cell has the default one, whatever seeds the first had."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "two.yaml").write_text(
        "# @package _global_\nexperiment: two\ngrids:\n  - {method: padim, seed: [3, 5]}\n  - {method: padim}\n"
    )
    searchpath = f"hydra.searchpath=[{tmp_path.as_uri()}]"
    found = expected_cells("two", [searchpath, f"dataset.root={toy_root}"])
    assert found is not None
    assert sorted(cell["seed"] for cell in found) == [0, 3, 5]


def experiment(folder: Path, text: str) -> str:
    (folder / "experiment").mkdir()
    (folder / "experiment" / "mine.yaml").write_text(f"# @package _global_\nexperiment: mine\n{text}")
    return f"hydra.searchpath=[{folder.as_uri()}]"


def test_values_of_a_grid_may_be_lists_mappings_and_interpolations(tmp_path: Path) -> None:
    text = """grids:
  - preprocess.window: [[200, 300], [400, 400]]
    dataset.select: [{camera: mobile, layout: [a, b]}]
    preprocess.size: ["${tiny:208,48}"]
"""
    arguments = ["experiment=mine", experiment(tmp_path, text)]
    configs = [compose(cell.overrides) for cell in expand(arguments, compose)]
    assert [list(c.preprocess.window) for c in configs] == [[200, 300], [400, 400]]
    assert [c.preprocess.size for c in configs] == [208, 208]
    quick = [compose(cell.overrides) for cell in expand([*arguments, "quick=true"], compose)]
    assert [c.preprocess.size for c in quick] == [48, 48]
    assert configs[0].dataset.select == {"camera": "mobile", "layout": ["a", "b"]}


def test_quick_takes_one_of_what_repeats_a_run_and_all_of_what_makes_another(tmp_path: Path) -> None:
    text = """grids:
  - {method: [radl, padim], seed: range(8), category: all, protocol.fold: [3, 4], method.x: [1, 2]}
  - {method: patchcore, seed: 2, category: [granite_tile, bolted_plate]}
"""
    searchpath = experiment(tmp_path, text)
    found = cells("experiment=mine", "quick=true", searchpath)
    shared = ("experiment=mine", "quick=true", searchpath)
    assert {frozenset(cell) - set(shared) for cell in found} == {
        *(
            frozenset({f"method={m}", "seed=0", "protocol.fold=3", f"method.x={x}"})
            for m in ("radl", "padim")
            for x in (1, 2)
        ),
        frozenset({"method=patchcore", "seed=2", "category=granite_tile"}),
    }
    named = cells("experiment=mine", "quick=true", "seed=5,6", "category=conveyor_rail", searchpath)
    assert len(named) == 2 * 2 * 2 + 2
    assert all("category=conveyor_rail" in cell and "seed=0" not in cell for cell in named)


def test_an_experiment_may_have_quick_grids_of_its_own(tmp_path: Path) -> None:
    text = "grids: [{method: [radl, padim], seed: range(3)}]\nquick_grids: [{method: padim, seed: [1, 2]}]\n"
    searchpath = experiment(tmp_path, text)
    assert len(cells("experiment=mine", searchpath)) == 6
    quick = cells("experiment=mine", "quick=true", searchpath)
    assert [[o for o in cell if o.startswith(("method", "seed"))] for cell in quick] == [
        ["method=padim", "seed=1"],
        ["method=padim", "seed=2"],
    ]


def test_a_grid_tells_what_its_cells_need(tmp_path: Path, toy_root: Path) -> None:
    text = "grids:\n  - {method: padim}\n  - {method: patchcore, needs: larger images}\n"
    arguments = ["experiment=mine", experiment(tmp_path, text)]
    assert [cell.needs for cell in expand(arguments, compose)] == [None, "larger images"]
    told = expected_cells("mine", [arguments[1], f"dataset.root={toy_root}"])
    assert told is not None and [cell["needs"] for cell in told] == [None, "larger images"]


def test_values_that_an_experiment_has_choose_among_its_grids(tmp_path: Path) -> None:
    """No method runs under a protocol, or on a category, that its own grid does not give it."""
    text = """grids:
  - {method: [padim, radl], protocol: one_class, category: [a, b]}
  - {method: auto_classifier, protocol: supervised, category: [b, c]}
"""
    shared = ["experiment=mine", experiment(tmp_path, text)]

    def chosen(*given: str) -> set[tuple[str, ...]]:
        keys = ("method=", "protocol=", "category=")
        return {tuple(o for o in cell if o.startswith(keys)) for cell in cells(*shared, *given)}

    assert chosen("method=padim") == {("method=padim", "protocol=one_class", f"category={c}") for c in "ab"}
    assert chosen("method=radl,auto_classifier", "category=b") == {
        ("method=radl", "protocol=one_class", "category=b"),
        ("method=auto_classifier", "protocol=supervised", "category=b"),
    }
    assert {cell[0] for cell in chosen("method=patchcore")} == {"method=patchcore"}  # none of theirs: in place of them


def test_cells_tell_what_differs_between_them(toy_root: Path) -> None:
    told = expected_cells("radl_tau", ["seed=0", "category=granite_tile", f"dataset.root={toy_root}"])
    assert told is not None
    assert [cell["settings"] for cell in told] == [f"method.tau={tau}" for tau in ("1.0", "0.5", "0.25", "0.1")]

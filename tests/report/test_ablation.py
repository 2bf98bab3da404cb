"""Figures of settings: which variants differ in one setting only, the points drawn, and the files."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.report import ablation, boxes
from harness.report.ablation import (
    draw_ablations,
    panels_of,
    places_of,
    position,
    setting_curves,
    sweeps,
    value_text,
)
from harness.report.boxes import box_values, draw_boxes
from harness.report.collect import collect
from harness.report.figures import pyplot
from harness.report.study import Study

WINDOWS = {"[200, 200]": 0.9, "[400, 400]": 0.8}


@pytest.fixture(scope="module")
def study(make_store: Callable[[str], Any]) -> Study:
    """Two methods over windows in two categories; RADL's loss and temperature about one base, and a few shots."""
    store = make_store("settings")
    for category, worse in (("clip", 0.0), ("staple", 0.1)):
        for method, better in (("patchcore", 0.05), ("padim", 0.0)):
            for window, level in WINDOWS.items():
                for seed in range(2):
                    own = {"preprocess.window": window}
                    store.add(method, category, seed, level=level + better - worse + 0.02 * seed, params=own)
    store.add("padim", "wiring", 0, params={"preprocess.window": "[400, 400]"})  # one value: nothing to compare
    for tau, level in {"0.5": 0.9, "0.02": 0.7, "1.0": 0.8}.items():
        for seed in range(3 if tau == "0.5" else 1):
            store.add("radl", "plate", seed, dataset="plates", level=level - 0.1 * seed, params={"method.tau": tau})
    store.add("radl", "plate", 0, dataset="plates", level=0.6, params={"method.loss": "l1"})
    both = {"method.loss": "l1", "method.fdfa": "False"}  # differs in one from the run before, in two from the base
    store.add("radl", "plate", 0, dataset="plates", level=0.5, params=both)
    for shots in ("1", "2"):
        store.add("padim", "plate", 0, dataset="plates", params={"protocol.shots": shots})
    return collect(store.uri, "study")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Figures, kept instead of written."""
    figures: list[Any] = []
    for module in (ablation, boxes):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    yield figures
    pyplot().close("all")


def variants(method: str, *settings: dict[str, str], level: float = 0.9) -> Study:
    """Return a study of one seed of each of a method's variants."""
    labels = [f"{method} ({i})" if i else method for i in range(len(settings))]
    rows = [
        {"run_id": f"{method}{i}", "dataset": "toy", "method": method, "label": label, "label_of_shots": label}
        | {"category": "a", "unit": "0", "fold": "", "test/image_auroc": level - 0.01 * i}
        for i, label in enumerate(labels)
    ]
    named = dict(zip(labels, settings, strict=True))
    return Study(pd.DataFrame(rows), pd.DataFrame(), (), {}, (), {}, {}, (), "", settings=named)


def test_sweeps_differ_in_one_setting(study: Study) -> None:
    found = {(s.dataset, s.setting, s.line): s.labels for s in sweeps(study)}
    plain = {"0.02": "radl (tau=0.02)", "0.5": "radl", "1.0": "radl (tau=1.0)"}
    assert found["plates", "method.tau", "radl"] == plain
    assert found["plates", "method.loss", "radl"] == {"hce": "radl", "l1": "radl (loss=l1)"}
    assert found["plates", "method.fdfa", "radl"] == {"true": "radl (loss=l1)", "false": "radl (fdfa=false, loss=l1)"}
    assert {line for dataset, setting, line in found if setting == "preprocess.window"} == {"padim", "patchcore"}
    assert {setting for _, setting, _ in found} == {
        "method.tau",
        "method.loss",
        "method.fdfa",
        "preprocess.window",
    }, "not the number of shots"


def test_lines_of_one_method_are_told_apart_by_the_rest() -> None:
    factorial = variants("m", *({"a.x": x, "a.y": y, "augment": z} for x, y, z in ("11-", "21-", "12+", "22+")))
    assert {s.line for s in sweeps(factorial) if s.setting == "a.x"} == {"m (y=1, augment=-)", "m (y=2, augment=+)"}
    added = variants("m", *({"a.x": x, "augment": z} for x in "12" for z in ("unset", "noise")))
    assert [s.line for s in sweeps(added) if s.setting == "a.x"] == ["m", "m (augment=noise)"]


def test_a_backbone_brings_its_layers_but_other_settings_bring_nothing() -> None:
    networks = [
        {"backbone.name": "r18", "method.layers": "['l1']", "weights": "r18:1", "method.k": "1"},
        {"backbone.name": "b5", "method.layers": "['b1']", "weights": "b5:2", "method.k": "1"},
        {"backbone.name": "b5", "method.layers": "['b1']", "weights": "b5:2", "method.k": "2"},
    ]
    found = {s.setting: s for s in sweeps(variants("padim", *networks))}
    assert found.keys() == {"backbone.name", "method.k"}
    assert found["backbone.name"].brings == ("method.layers", "weights")
    assert found["backbone.name"].labels == {"r18": "padim", "b5": "padim (1)"}
    confounded = variants("m", {"method.loss": "a", "method.tau": "1"}, {"method.loss": "b", "method.tau": "2"})
    assert sweeps(confounded) == []


def test_points_are_mean_and_range_over_seeds(study: Study) -> None:
    curves = setting_curves(study)
    shown = curves[(curves["setting"] == "preprocess.window") & (curves["metric"] == "test/image_auroc")]
    assert set(shown["category"]) == {"clip", "staple"}, "a category with one window compares nothing"
    one = shown.set_index(["line", "category", "value"]).loc[("patchcore", "staple", "[400, 400]")]
    assert one[["mean", "low", "high"]].tolist() == pytest.approx([76.0, 75.0, 77.0])
    assert one["n"] == 2 and len(one["run_ids"]) == 2
    tau = curves[(curves["setting"] == "method.tau") & (curves["metric"] == "test/image_auroc")].set_index("value")
    assert tau["mean"].to_dict() == pytest.approx({"0.5": 80.0, "0.02": 70.0, "1.0": 80.0})
    assert tau["low"].to_dict() == pytest.approx({"0.5": 70.0, "0.02": 70.0, "1.0": 80.0})


def test_many_categories_are_their_mean(study: Study) -> None:
    runs = variants("m", {"method.k": "1"}, {"method.k": "2"}).runs
    many = pd.concat([runs.assign(category=f"c{i}", run_id=runs["run_id"] + str(i)) for i in range(9)])
    many["test/image_auroc"] -= 0.01 * many["category"].str[1].astype(int)
    holey = many[(many["category"] != "c8") | (many["label"] == "m")].reset_index(drop=True)
    curves = setting_curves(replace(variants("m", {"method.k": "1"}, {"method.k": "2"}), runs=holey))
    assert curves[["category", "value"]].to_numpy().tolist() == [["Mean", "1"], ["Mean", "2"]]
    assert curves["mean"].tolist() == pytest.approx([86.5, 85.5]), "over the eight categories that have both values"
    assert len(curves["run_ids"][0]) == 8


def test_lines_that_share_values_are_one_figure() -> None:
    one = variants("m", *({"preprocess.size": size} for size in ("32", "64", "128")))
    same = variants("n", *({"preprocess.size": size} for size in ("64", "128")), level=0.8)
    other = variants("o", *({"preprocess.size": size} for size in ("256", "512")), level=0.8)
    runs = pd.concat([one.runs, same.runs, other.runs], ignore_index=True)
    curves = setting_curves(replace(one, runs=runs, settings={**one.settings, **same.settings, **other.settings}))
    assert curves.groupby("group")["line"].unique().map(set).to_dict() == {0: {"m", "n"}, 1: {"o"}}


@pytest.mark.parametrize(
    ("setting", "values", "places", "is_log"),
    [
        ("method.k", ["10", "9", "1"], {"1": 0, "9": 1, "10": 2}, False),
        ("method.k", ["100", "1"], {"1": 1, "100": 100}, True),
        ("method.noise", ["0.4", "0.0"], {"0.0": 0, "0.4": 1}, False),
        ("preprocess.window", ["[640, 480]", "[400, 480]"], {"[400, 480]": 0, "[640, 480]": 1}, False),
        ("backbone.name", ["r50", "r101"], {"r50": 0, "r101": 1}, False),
        ("augment", ["noise", "unset"], {"unset": 0, "noise": 1}, False),
    ],
)
def test_places_of_values(setting: str, values: list[str], places: dict[str, float], is_log: bool) -> None:
    found = places_of(setting, values)
    assert (list(found[0].items()), found[1]) == (list(places.items()), is_log)


def test_values_as_numbers_and_texts() -> None:
    assert position("preprocess.window", "[400, 100]") == pytest.approx(200.0)
    assert [position("method.x", v) for v in ("2e-05", "true", "True", "[1, 2]", "null", "per category")] == [
        2e-05,
        *[None] * 5,
    ]
    assert value_text("preprocess.window", "[400, 480]") == "400×480"
    assert value_text("method.layers", "['layer1']") == "['layer1']"
    assert value_text("augment", "unset") == "none"


def test_windows_are_a_line_a_method_and_a_panel_a_category(study: Study, kept: list[Any], tmp_path: Path) -> None:
    figures = {figure.name: figure for figure in draw_ablations(study, tmp_path)}
    names = ["preprocess_window_toy", *(f"method_{name}_plates" for name in ("fdfa", "loss", "tau"))]
    assert figures.keys() == {f"setting_{name}" for name in names}
    figure = figures["setting_preprocess_window_toy"]
    ids = figure.lines["padim"]["test/aupro"]["clip"]["[200, 200]"]
    assert set(study.runs.set_index("run_id").loc[ids, "seed"]) == {0, 1} and len(ids) == 2
    drawn = next(f for f in kept if len(f.axes) == 6)
    assert [axis.get_title() for axis in drawn.axes] == ["clip", "staple", "", "", "", ""]
    first = drawn.axes[0]
    assert [text.get_text() for text in first.get_xticklabels()] == ["200×200", "400×400"]
    lines = [line.get_ydata().tolist() for line in first.get_lines() if line.get_linestyle() == "-"]
    assert lines == [pytest.approx([91.0, 81.0]), pytest.approx([96.0, 86.0])]  # padim, patchcore
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["padim", "patchcore"]


def test_tau_is_on_a_logarithmic_axis_and_the_loss_is_dots(study: Study, kept: list[Any], tmp_path: Path) -> None:
    names = [figure.name for figure in draw_ablations(study, tmp_path)]
    by_name = dict(zip(names, kept, strict=True))
    tau, loss = by_name["setting_method_tau_plates"].axes[0], by_name["setting_method_loss_plates"].axes[0]
    assert tau.get_xscale() == "log" and tau.get_lines()[0].get_xdata().tolist() == [0.02, 0.5, 1.0]
    assert [text.get_text() for text in loss.get_yticklabels()] == ["hce", "l1"]
    (dots,) = loss.containers
    assert dots[0].get_xdata().tolist() == pytest.approx([80.0, 60.0])
    assert dots[2][0].get_segments()[0][:, 0].tolist() == pytest.approx([70.0, 90.0])


def test_panels_of_many_categories_are_a_figure_a_metric(study: Study, kept: list[Any], tmp_path: Path) -> None:
    clip = study.runs[(study.runs["dataset"] == "toy") & (study.runs["category"] == "clip")]
    runs = pd.concat([clip.assign(category=f"clip $ {i}") for i in range(5)], ignore_index=True)
    names = [figure.name for figure in draw_ablations(replace(study, runs=runs), tmp_path)]
    assert names == [f"setting_preprocess_window_toy_{metric}" for metric in ("image_auroc", "pixel_auroc", "aupro")]
    assert [axis.get_title() for axis in kept[0].axes[:5]] == [rf"clip \$ {i}" for i in range(5)]
    assert len(panels_of(setting_curves(replace(study, runs=runs)))[0]) == 15


def test_no_accuracy_is_no_figure(study: Study, tmp_path: Path) -> None:
    tested = [column for column in study.runs.columns if column.startswith("test/")]
    for runs in (study.runs.drop(columns=tested), study.runs.assign(**dict.fromkeys(tested, float("nan")))):
        bare = replace(study, runs=runs)
        assert sweeps(bare) == [] and box_values(bare).empty
        assert [*draw_ablations(bare, tmp_path), *draw_boxes(bare, tmp_path)] == []


def test_boxes_are_of_all_variants_and_seeds(study: Study, kept: list[Any], tmp_path: Path) -> None:
    values = box_values(study)
    assert set(values["method"]) == {"radl"}, "windows are two variants, shots are none"
    auroc = values[values["metric"] == "test/image_auroc"]
    assert auroc["label"].nunique() == 5 and len(auroc) == 7
    assert sorted(auroc["value"]) == pytest.approx([50.0, 60.0, 70.0, 70.0, 80.0, 80.0, 90.0])
    (figure,) = draw_boxes(study, tmp_path)
    assert figure.name == "variants_plates" and len(figure.lines["radl"]["test/f1_max"]["radl"]) == 3
    titles = [axis.get_title() for axis in kept[0].axes]
    assert titles == ["Image AUROC", "F1-max", "Recall at\nprecision 99.6 %"]
    medians = [line for line in kept[0].axes[0].get_lines() if line.get_linewidth() == 1.2]
    assert medians[0].get_ydata().tolist() == pytest.approx([70.0, 70.0])


def test_variants_without_a_category_are_in_no_box(study: Study) -> None:
    base = variants("m", *({"method.k": str(k)} for k in range(4)))
    second = base.runs.assign(category="b", run_id=base.runs["run_id"] + "b")
    assert box_values(replace(base, runs=pd.concat([base.runs, second[:3]])))["label"].nunique() == 3
    assert box_values(replace(base, runs=pd.concat([base.runs, second[:2]]))).empty


def test_files_are_the_same_twice(study: Study, tmp_path: Path) -> None:
    only = replace(study, runs=study.runs[study.runs["label"].str.contains(r"^radl$|tau")])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        assert len([*draw_ablations(only, tmp_path / folder), *draw_boxes(only, tmp_path / folder)]) == 2
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    names = ("setting_method_tau_plates", "variants_plates")
    assert first.keys() == {f"{name}.{kind}" for name in names for kind in ("pdf", "png")}

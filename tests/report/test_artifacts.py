"""What runs left behind: found in real stores, in moved folders and far away; broken files are told, not fatal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.metrics import confusion, f1_max_threshold
from harness.report.artifacts import Artifacts, ImageSet, groups_of_same_images, same_images, scored_runs
from harness.report.collect import collect

KINDS = ("good", "good", "good", "dent", "dent", "scratch")


def write_artifacts(
    folder: Path,
    *,
    seed: int = 0,
    apart: float = 1.0,
    images: Sequence[str] | None = None,
    content: str = "a",
    rules: Sequence[str] = ("f1_test",),
    heatmaps: bool = True,
    size: tuple[int, int] = (48, 24),
    classes: bool = False,
) -> None:
    """Write what a run leaves: `apart` is how far its scores of good and anomalous images lie from each other."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(images or [f"test/{kind}/{i:03d}.png" for i, kind in enumerate(KINDS * 4)])
    labels = np.array(["/good/" not in name for name in names], dtype=np.int8)
    rng = np.random.default_rng(seed)
    scores = (rng.normal(0, 0.3, len(names)) + apart * labels).astype(np.float32)
    frame = pd.DataFrame({"image": names, "label": labels, "defect": [name.split("/")[-2] for name in names]})
    frame = frame.assign(split="test", selection="last", score=scores)
    if classes:
        frame = frame.assign(p_good=1 - scores, p_anomalous=scores)
    other = frame.iloc[:2].assign(split="validation")
    pd.concat([frame, other]).to_parquet(folder / "scores.parquet", index=False)
    split = frame[["image", "label", "defect"]].assign(part="test", group="007")
    split.assign(sha256=[f"{content}{name}" for name in names]).to_csv(folder / "split.csv", index=False)
    value = float(np.nan_to_num(f1_max_threshold(labels, scores).threshold))
    rows = [{"selection": "last", "rule": rule, "value": value + i / 8} for i, rule in enumerate(rules)]
    rows += [{"selection": "oracle", "rule": "fpr_5", "value": 99.0}]
    table = [row | confusion(labels, scores, row["value"])._asdict() for row in rows]
    pd.DataFrame(table).to_csv(folder / "thresholds.csv", index=False)
    if heatmaps:
        _write_heatmaps(folder / "heatmaps", frame, size)


def _write_heatmaps(folder: Path, frame: pd.DataFrame, size: tuple[int, int]) -> None:
    folder.mkdir()
    by_score = frame.sort_values("score")
    chosen = [("subset", name) for name in frame["image"].iloc[:8]]
    bad, good = (by_score[by_score["label"] == label]["image"].tolist() for label in (1, 0))
    chosen += [(f"low_anomalous_{rank}", name) for rank, name in enumerate(bad[:3], 1)]
    chosen += [(f"high_good_{rank}", name) for rank, name in enumerate(good[::-1][:3], 1)]
    for number, (kind, name) in enumerate(chosen):
        slug = name.removeprefix("test/").removesuffix(".png").replace("/", "_")
        pixels = np.full((size[1], size[0], 3), 10 * number, np.uint8)
        pixels[:, size[0] // 2 :] = (200, 80, 10 * number)
        Image.fromarray(pixels).save(folder / f"{kind}_{slug}.png")


class Runs:
    """Runs whose artifacts lie in folders, as a study's frame, without a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, []  # type: ignore[var-annotated]

    def add(
        self,
        label: str,
        category: str = "plate",
        seed: int = 0,
        *,
        dataset: str = "toy",
        protocol: str = "one_class",
        fold: str = "",
        written: bool = True,
        **artifacts: Any,
    ) -> str:
        """Add a run, and return its id."""
        run_id = f"run{len(self.rows):03d}"
        place = self.folder / run_id / "artifacts"
        if written:
            write_artifacts(place, **({"seed": len(self.rows)} | artifacts))
        row = {"run_id": run_id, "name": f"{label}/{category}/{seed}", "label": label, "dataset": dataset}
        row |= {"category": category, "seed": seed, "fold": fold, "unit": f"{seed}.{fold}" if fold else str(seed)}
        self.rows.append(row | {"protocol": protocol, "timing": False, "artifact_uri": place.as_uri()})
        return run_id

    @property
    def frame(self) -> pd.DataFrame:
        """The runs, as `Study.runs`."""
        return pd.DataFrame(self.rows)

    @property
    def artifacts(self) -> Artifacts:
        """Their artifacts, read anew."""
        return Artifacts("sqlite:////nowhere/mlflow.db", self.frame)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture(scope="module")
def logged(make_store: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real store of three runs that logged artifacts, one that did not and one for times."""
    store = make_store("logged")
    folder = Path(store.uri.removeprefix("sqlite:///")).parent
    place = (folder / "artifacts" / "my study").as_uri()
    store.experiments["study"] = store.client.create_experiment("study", artifact_location=place)
    for seed in range(3):
        run_id = store.add("patchcore", "plate", seed)
        made = tmp_path_factory.mktemp("made") / "artifacts"
        write_artifacts(made, seed=seed)
        store.client.log_artifacts(run_id, str(made))
    store.add("padim", "plate", 0)
    store.add("radl", "plate", 0, timing=True)
    return folder


def test_a_real_store(logged: Path) -> None:
    uri = f"sqlite:///{logged / 'mlflow.db'}"
    runs = scored_runs(collect(uri, "study"))
    assert runs["label"].tolist() == ["patchcore"] * 3 + ["padim"]  # the run for times has no scores to show
    artifacts = Artifacts(uri, runs)
    artifacts.preload(runs["run_id"])
    first, *_, without = runs["run_id"]
    scores = artifacts.scores(first)
    assert scores is not None and list(scores.columns) == ["image", "label", "defect", "score"]
    assert len(scores) == 24  # validation images are left out
    assert artifacts.scores(first) is scores
    split, thresholds = artifacts.split(first), artifacts.thresholds(first)
    assert split is not None and split["group"].tolist() == ["007"] * 24  # a text, not a number
    assert thresholds is not None and thresholds["rule"].tolist() == ["f1_test", "fpr_5"]
    assert len(artifacts.heatmaps(first)) == 14
    assert artifacts.scores(without) is None and artifacts.heatmaps(without) == []
    assert artifacts.warnings == (
        f"No scores.parquet can be found for 1 of 4 runs ({without}): no curve, distribution or gallery shows them.",
    )


def test_a_moved_folder(logged: Path, tmp_path: Path) -> None:
    """The runs name the folder where they were made, which is there no more."""
    shutil.copytree(logged, tmp_path / "moved")
    uri = f"sqlite:///{tmp_path / 'moved' / 'mlflow.db'}"
    runs = collect(uri, "study").runs
    runs["artifact_uri"] = runs["artifact_uri"].str.replace(str(logged), "/gone/artifacts/once", regex=False)
    runs.loc[1, "artifact_uri"] = f"artifacts/my study/{runs.loc[1, 'run_id']}/artifacts"  # a path, from elsewhere
    artifacts = Artifacts(uri, runs)
    found = artifacts.path(runs.loc[0, "run_id"], "scores.parquet")
    assert found is not None and found.is_relative_to(tmp_path / "moved")
    assert [artifacts.scores(run_id) is not None for run_id in runs["run_id"]] == [True] * 3 + [False] * 2


def test_nothing_is_read_outside_of_a_run(runs: Runs, tmp_path: Path) -> None:
    run_id = runs.add("radl")
    folder = runs.folder / run_id / "artifacts"
    (folder.parent / "secret.csv").write_text("x")
    (folder / "thresholds.csv").unlink()
    (folder / "thresholds.csv").symlink_to(folder.parent / "secret.csv")
    (folder / "heatmaps" / "subset_link.png").symlink_to(folder.parent / "secret.csv")
    artifacts = runs.artifacts
    for name in ("../secret.csv", "/etc/hostname", "", "heatmaps/../../secret.csv", "thresholds.csv"):
        assert artifacts.path(run_id, name) is None
    assert artifacts.thresholds(run_id) is None
    assert len(artifacts.heatmaps(run_id)) == 14
    assert artifacts.path("unknown", "scores.parquet") is None


@pytest.mark.parametrize("name", ["scores.parquet", "thresholds.csv", "split.csv"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "columns"])
def test_broken_files_count_as_missing(runs: Runs, name: str, damage: str) -> None:
    run_id, other = runs.add("radl"), runs.add("padim")
    path = runs.folder / run_id / "artifacts" / name
    whole = path.read_bytes()
    if damage == "columns":
        frame = pd.DataFrame({"image": ["a"], "label": [0]})
        path.write_bytes(frame.to_parquet() if name.endswith("parquet") else frame.to_csv().encode())
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"\x00\xff\x93\n" * 50, "empty": b""}[damage])
    artifacts = runs.artifacts
    read = {"scores.parquet": artifacts.scores, "thresholds.csv": artifacts.thresholds, "split.csv": artifacts.split}
    if damage == "cut" and name != "scores.parquet":  # half a table may be one
        read[name](run_id)
        return
    assert read[name](run_id) is None and read[name](run_id) is None
    assert read[name](other) is not None
    (warning,) = artifacts.warnings
    assert warning.startswith(f"{name} of run {run_id} (radl/plate/0) cannot be used: ")


def test_scores_must_make_sense(runs: Runs) -> None:
    for label, change in {"two": {"label": 2}, "nan": {"score": np.nan}, "none": {"split": "val"}}.items():
        run_id = runs.add(label)
        path = runs.folder / run_id / "artifacts" / "scores.parquet"
        pd.read_parquet(path).assign(**change).to_parquet(path)
    artifacts = runs.artifacts
    artifacts.preload(runs.frame["run_id"])
    assert [artifacts.scores(run_id) for run_id in runs.frame["run_id"]] == [None] * 3
    reasons = ["a label is not 0 or 1, or a score is not finite"] * 2 + ["it has no test images"]
    assert [warning.rpartition(": ")[2] for warning in artifacts.warnings] == [f"{reason}." for reason in reasons]


def test_classifiers_keep_their_probabilities(runs: Runs) -> None:
    run_id = runs.add("classifier", classes=True)
    scores = runs.artifacts.scores(run_id)
    assert scores is not None and list(scores.columns)[4:] == ["p_good", "p_anomalous"]


def test_panels(runs: Runs) -> None:
    run_id = runs.add("radl")
    artifacts = runs.artifacts
    path, broken, odd, *_ = artifacts.heatmaps(run_id)
    panels = artifacts.panels(run_id, path)
    assert panels is not None and [panel.size for panel in panels] == [(24, 24), (24, 24)]
    assert panels[0].getpixel((23, 0)) != panels[1].getpixel((0, 0))
    broken.write_bytes(broken.read_bytes()[:60])
    Image.new("RGB", (5, 3)).save(odd)
    assert artifacts.panels(run_id, broken) is None and artifacts.panels(run_id, odd) is None
    assert [warning.partition(" of run ")[0] for warning in artifacts.warnings] == [
        f"heatmaps/{name.name}" for name in sorted((broken, odd))
    ]


def test_remote_artifacts_are_downloaded_and_removed(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [runs.add("radl", seed=seed) for seed in range(3)]
    frame = runs.frame.assign(artifact_uri=[f"s3://user:pw@bucket/{run_id}/artifacts?x=1" for run_id in ids])
    fetched = []

    def local(uri: str) -> Path:
        return runs.folder / uri.removeprefix("s3://user:pw@bucket/").removesuffix("?x=1")

    def entries(artifact_uri: str, tracking_uri: str) -> list[Any]:
        if ids[1] in artifact_uri:
            raise RuntimeError("the server at s3://user:pw@bucket is tired.\nmore")
        return [SimpleNamespace(path=path.name) for path in local(artifact_uri).iterdir()]

    def download(artifact_uri: str, dst_path: str, tracking_uri: str) -> None:
        path = local(artifact_uri)
        fetched.append(path.name)
        copy = shutil.copytree if path.is_dir() else shutil.copy
        Path(dst_path).mkdir(exist_ok=True)
        copy(path, Path(dst_path) / path.name)

    monkeypatch.setattr(mlflow.artifacts, "list_artifacts", entries)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    (runs.folder / ids[2] / "artifacts" / "thresholds.csv").unlink()
    with Artifacts("http://far", frame) as artifacts:
        artifacts.preload(ids)
        assert [artifacts.scores(run_id) is not None for run_id in ids] == [True, False, True]
        assert artifacts.thresholds(ids[0]) is not None and artifacts.thresholds(ids[2]) is None
        assert len(artifacts.heatmaps(ids[0])) == 14
        place = artifacts.path(ids[0], "scores.parquet")
        assert place is not None and place.is_file()
        assert artifacts.warnings == (
            "Artifacts cannot be downloaded for 1 of 3 runs (run001), the first from "
            "s3://***@bucket/run001/artifacts: the server at s3://***@bucket is tired.",
        )
    assert not place.exists()
    assert sorted(fetched) == [
        "heatmaps",
        "scores.parquet",
        "scores.parquet",
        "split.csv",
        "split.csv",
        "thresholds.csv",
    ]


def test_a_dead_server_is_not_asked_a_thousand_times(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [runs.add("radl", seed=seed, written=False) for seed in range(200)]
    asked = []

    def refuse(artifact_uri: str, tracking_uri: str) -> None:
        asked.append(artifact_uri)
        raise ConnectionError("refused")

    monkeypatch.setattr(mlflow.artifacts, "list_artifacts", refuse)
    artifacts = Artifacts("http://far", runs.frame.assign(artifact_uri="mlflow-artifacts:/1/x/artifacts"))
    artifacts.preload(ids)
    assert len(asked) < 20
    (warning,) = artifacts.warnings
    assert "for 200 of 200 runs (run000, run001, run002 and 197 more)" in warning and warning.endswith(": refused.")


def test_same_images(runs: Runs) -> None:
    first = runs.add("a", seed=0)
    same, renamed = runs.add("a", seed=1), runs.add("a", seed=2, images=["test/good/x.png", "test/dent/y.png"])
    changed, untold = runs.add("a", seed=3, content="b"), runs.add("a", seed=4)
    (runs.folder / untold / "artifacts" / "split.csv").unlink()
    artifacts = runs.artifacts
    images = {run_id: artifacts.images(run_id) for run_id in (first, same, renamed, changed, untold)}
    found = {run_id: of for run_id, of in images.items() if of is not None}
    assert len(found) == 5
    assert [found[first].same(of) for of in found.values()] == [True, True, False, False, True]
    assert same_images([found[first], found[same], found[untold]])
    assert not same_images([found[untold], found[first], found[changed]])
    assert same_images([]) and artifacts.warnings == ()


def test_groups() -> None:
    a, b, c = ImageSet("a", "1"), ImageSet("a", "2"), ImageSet("c", None)
    drawn = {"0": a, "1": c}
    assert groups_of_same_images({"x": drawn, "y": {"0": a}, "z": {"1": a}}) == [["x", "y"], ["z"]]
    assert groups_of_same_images({"x": {"0": a}, "y": {"1": b}, "z": {"2": a}}) == [["x", "z"], ["y"]]
    assert groups_of_same_images({}) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["1", "2", None])), max_size=6))
def test_in_a_group_everything_is_the_same(several: list[tuple[str, str | None]]) -> None:
    images = {str(i): {"0": ImageSet(*one)} for i, one in enumerate(several)}
    groups = groups_of_same_images(images)
    assert sorted(label for group in groups for label in group) == sorted(images)
    assert all(same_images([images[label]["0"] for label in group]) for group in groups)


def test_unproven_runs_are_not_shown() -> None:
    rows = {"label": ["a", "a", "b", "b"], "timing": [False, False, False, True]}
    runs = pd.DataFrame(rows | {"test/image_auroc": [np.nan, 0.9, np.nan, np.nan]})
    study: Any = SimpleNamespace(runs=runs, unproven=("a",))
    assert scored_runs(study).index.tolist() == [0, 1]
    assert scored_runs(study)["label"].tolist() == ["a", "b"]
    study = SimpleNamespace(runs=runs.drop(columns="test/image_auroc"), unproven=("a",))
    assert scored_runs(study)["label"].tolist() == ["b"]

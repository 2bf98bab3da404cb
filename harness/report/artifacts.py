"""What the runs of a study left behind besides metrics: found wherever it lies, read quickly, trusted in nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pandas as pd

from harness.report.store import first_line
from harness.report.study import Study
from harness.uri import masked

if TYPE_CHECKING:
    from PIL.Image import Image

SCORES, SPLIT, THRESHOLDS, HEATMAPS = "scores.parquet", "split.csv", "thresholds.csv", "heatmaps"
THREADS = 8  # a far store answers slowly
NAMED = 3  # runs in a sentence
GIVE_UP = 3  # downloads that fail before any succeeds: a dead server is not asked a thousand times
MLFLOW = {  # no news of its own, no bars, and no minutes of waiting for a server that is down
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
PIXELS = 2**24  # of a heat map: a run's have some 10,000
TEXTS = ("image", "defect", "part", "group", "sha256", "selection", "rule", "split")  # columns of CSV files

Found = TypeVar("Found")


class ImageSet(NamedTuple):
    """Which images a run was tested on: a hash of their names and labels, and one of their content, where known."""

    names: str
    content: str | None

    def same(self, other: ImageSet) -> bool:
        """Whether these are the others' images: their names, and their content as far as both tell it."""
        return self.names == other.names and (None in (self.content, other.content) or self.content == other.content)


class Artifacts:
    """The artifacts of runs, each read once; what is missing or broken is None, and a sentence in `warnings`.

    Files are looked for where the run says, then beside a local database, for a `runs/` folder may have been moved.
    Remote ones are downloaded into a folder that lives as long as the object (or its `with` block).

    Args:
        uri: the tracking URI.
        runs: `Study.runs`: run_id, name and artifact_uri are read.
    """

    def __init__(self, uri: str, runs: pd.DataFrame) -> None:
        self._uri, self._beside = uri, _folder_of(uri)
        self._places = dict(zip(runs["run_id"], runs["artifact_uri"].fillna("").astype(str), strict=True))
        self._names = dict(zip(runs["run_id"], runs["name"], strict=True))
        self._read: dict[tuple[str, str], Any] = {}
        self._broken: dict[tuple[str, str], str] = {}
        self._failed: dict[str, str] = {}  # run -> why nothing of it can be downloaded
        self._listed: dict[str, frozenset[str]] = {}
        self._notes: list[str] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._lock = Lock()

    def __enter__(self) -> Artifacts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was downloaded."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what is missing or broken, in the order of the runs, and on what was left out."""
        order = {run_id: i for i, run_id in enumerate(self._places)}
        broken = sorted(self._broken.items(), key=lambda item: (order[item[0][0]], item[0][1]))
        sentences = [
            f"{name} of run {run_id} ({self._names[run_id]}) cannot be used: {reason.rstrip('.')}."
            for (run_id, name), reason in broken
        ]
        return (*self._missing(), *self._not_downloaded(), *sentences, *self._notes)

    def note(self, sentence: str) -> None:
        """Add a sentence to the warnings, once."""
        if sentence not in self._notes:
            self._notes.append(sentence)

    def preload(self, run_ids: Iterable[str]) -> None:
        """Read scores and splits of many runs at once."""
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self.images, run_ids))

    def path(self, run_id: str, name: str) -> Path | None:
        """Return where a file or folder of a run lies on this machine, never outside of the run's artifacts."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute():
            return None
        for folder in self._folders(run_id, parts[0]):
            try:
                if not (folder / name).exists():  # resolving takes ten times as long as this
                    continue
                found = (folder / name).resolve()
                if found.is_relative_to(folder.resolve()):
                    return found
            except OSError:  # a loop of links, a name too long
                continue
        return None

    def scores(self, run_id: str) -> pd.DataFrame | None:
        """Return the last epoch's scores of the test images: image, label, defect, score, and p_* of classifiers.

        The frame is shared by all who ask: do not write to it.
        """
        return self._once(run_id, SCORES, _scores)

    def split(self, run_id: str) -> pd.DataFrame | None:
        """Return what each image of the category was for: image, label, defect, part, group, sha256."""
        return self._once(run_id, SPLIT, _split)

    def thresholds(self, run_id: str) -> pd.DataFrame | None:
        """Return the run's thresholds: selection, rule, value, and what they do to the test images."""
        return self._once(run_id, THRESHOLDS, _thresholds)

    def heatmaps(self, run_id: str) -> list[Path]:
        """Return the run's pictures of heat maps by name, none where it has none."""
        folder = self.path(run_id, HEATMAPS)
        if folder is None or not folder.is_dir():
            return []
        return [path for path in sorted(folder.glob("*.png")) if self.path(run_id, f"{HEATMAPS}/{path.name}") == path]

    def panels(self, run_id: str, path: Path) -> tuple[Image, Image] | None:
        """Return the two halves of a picture of :meth:`heatmaps`: the image with its defects outlined, and the map."""
        key = (run_id, f"{HEATMAPS}/{path.name}")
        try:
            return _halves(path)
        except Exception as error:  # whatever an image library makes of a broken file
            self._broken[key] = first_line(error)
            return None

    def images(self, run_id: str) -> ImageSet | None:
        """Return which images a run was tested on."""
        key = (run_id, "images")
        if key not in self._read:
            scores = self.scores(run_id)
            self._read[key] = None if scores is None else _images(scores, self.split(run_id))
            self._read.pop((run_id, SPLIT), None)  # the largest file, seldom asked for again: not kept for thousands
        found: ImageSet | None = self._read[key]
        return found

    def _once(self, run_id: str, name: str, read: Callable[[Path], Found]) -> Found | None:
        key = (run_id, name)
        if key not in self._read:
            path = self.path(run_id, name)
            try:
                self._read[key] = None if path is None else read(path)
            except Exception as error:  # a broken file fails in as many ways as there are bytes in it
                self._read[key], self._broken[key] = None, first_line(error)
        found: Found | None = self._read[key]
        return found

    def _folders(self, run_id: str, name: str) -> Iterator[Path]:
        uri = self._places.get(run_id, "")
        if uri and not _is_local(uri):
            if (folder := self._downloaded(run_id, uri, name)) is not None:
                yield folder
            return
        place = _local(uri)
        if uri:
            yield place
        # What ends as `artifacts/<experiment>/<run id>/artifacts` lies so beside the database that it was moved with.
        parts = place.parts
        if self._beside is not None and parts[-2:] == (run_id, "artifacts") and ".." not in parts:
            for start in reversed([i for i, part in enumerate(parts[:-2]) if part == "artifacts"]):
                yield self._beside.joinpath(*parts[start:])

    def _downloaded(self, run_id: str, uri: str, name: str) -> Path | None:
        """Return the folder into which a remote artifact was downloaded, None where the run has no such artifact."""
        if run_id in self._failed:
            return None
        if len(self._failed) >= GIVE_UP and not self._listed:
            self._failed[run_id] = next(iter(self._failed.values()))
            return None
        try:
            with self._lock:
                if self._temporary is None:
                    self._temporary = tempfile.TemporaryDirectory(prefix="harness-report-", ignore_cleanup_errors=True)
                artifacts = _mlflow_artifacts()
            folder = Path(self._temporary.name) / run_id
            if run_id not in self._listed:
                entries = artifacts.list_artifacts(artifact_uri=uri, tracking_uri=self._uri)
                self._listed[run_id] = frozenset(PurePosixPath(entry.path).name for entry in entries)
            if name in self._listed[run_id] and not (folder / name).exists():
                place = urlsplit(uri)._replace(path=f"{urlsplit(uri).path.rstrip('/')}/{name}").geturl()
                artifacts.download_artifacts(artifact_uri=place, dst_path=str(folder), tracking_uri=self._uri)
        except Exception as error:  # MLflow passes on whatever its backends raise
            self._failed[run_id] = first_line(error)
            return None
        return folder

    def _missing(self) -> Iterator[str]:
        asked = [run_id for run_id in self._places if (run_id, SCORES) in self._read]
        without = [
            run_id
            for run_id in asked
            if self._read[run_id, SCORES] is None
            and (run_id, SCORES) not in self._broken
            and run_id not in self._failed
        ]
        if without:
            yield (
                f"No {SCORES} can be found for {len(without)} of {len(asked)} runs ({_some(without)}): no curve, "
                "distribution or gallery shows them."
            )

    def _not_downloaded(self) -> Iterator[str]:
        failed = [run_id for run_id in self._places if run_id in self._failed]
        if failed:
            place = masked(self._places[failed[0]]).partition("?")[0]
            yield (
                f"Artifacts cannot be downloaded for {len(failed)} of {len(self._places)} runs ({_some(failed)}), the "
                f"first from {place}: {self._failed[failed[0]].rstrip('.')}."
            )


def scored_runs(study: Study) -> pd.DataFrame:
    """Return the runs whose scores count: not those for times, nor those on real data with random weights."""
    runs = study.runs
    column = "test/image_auroc"
    hidden = runs["label"].isin(study.unproven)
    if column in runs.columns:
        hidden &= runs[column].isna()
    return runs[~runs["timing"].astype(bool) & ~hidden].reset_index(drop=True)


def groups_of_same_images(images: Mapping[str, Mapping[str, ImageSet]]) -> list[list[str]]:
    """Return labels in groups that may be compared: label -> seed or fold -> images.

    Labels compare where they tested on the same images in every seed that they share; without a shared seed, where all
    their images are the same.
    """
    groups: list[list[str]] = []
    for label, own in images.items():
        for group in groups:
            if all(_compare(own, images[other]) for other in group):
                group.append(label)
                break
        else:
            groups.append([label])
    return groups


def same_images(several: Collection[ImageSet]) -> bool:
    """Whether all runs were tested on the same images."""
    found = list(several)
    return all(one.same(other) for i, one in enumerate(found) for other in found[:i])


def _compare(one: Mapping[str, ImageSet], other: Mapping[str, ImageSet]) -> bool:
    if shared := one.keys() & other.keys():
        return all(one[unit].same(other[unit]) for unit in shared)
    return same_images([*one.values(), *other.values()])


def _folder_of(uri: str) -> Path | None:
    """Return the folder of a SQLite store, None for other stores."""
    if not uri.lower().startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    database = make_url(uri).database
    return Path(database).resolve().parent if database else None


def _is_local(uri: str) -> bool:
    scheme = urlsplit(uri).scheme
    return scheme in ("", "file") or len(scheme) == 1  # C:\…


def _local(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri)


def _mlflow_artifacts() -> Any:
    for name, value in MLFLOW.items():
        os.environ.setdefault(name, value)
    from mlflow import artifacts

    return artifacts


def _scores(path: Path) -> pd.DataFrame:
    from pyarrow import compute, parquet

    with parquet.ParquetFile(path) as file:
        table = file.read(use_threads=False)
    _require(table.column_names, ("image", "label", "defect", "split", "selection", "score"))
    test = compute.and_(compute.equal(table["split"], "test"), compute.equal(table["selection"], "last"))
    kept = ["image", "label", "defect", "score", *(c for c in table.column_names if c.startswith("p_"))]
    found: pd.DataFrame = table.select(kept).filter(test).to_pandas(ignore_metadata=True)
    if found.empty:
        raise ValueError("it has no test images")
    labels, scores = found["label"].to_numpy(), found["score"].to_numpy(dtype=float)
    if not ((labels == 0) | (labels == 1)).all() or not np.isfinite(scores).all():
        raise ValueError("a label is not 0 or 1, or a score is not finite")
    return found


def _split(path: Path) -> pd.DataFrame:
    return _csv(path, ("image", "label", "defect", "part", "group", "sha256"))


def _thresholds(path: Path) -> pd.DataFrame:
    found = _csv(path, ("selection", "rule", "value"))
    return found[np.isfinite(found["value"].to_numpy(dtype=float))]


def _csv(path: Path, columns: Collection[str]) -> pd.DataFrame:
    from pyarrow import csv, string

    reading, parsing = csv.ReadOptions(use_threads=False), csv.ParseOptions(newlines_in_values=True)
    types = csv.ConvertOptions(column_types={name: string() for name in TEXTS})
    frame: pd.DataFrame = csv.read_csv(path, reading, parsing, types).to_pandas()
    _require(frame.columns, columns)
    return frame


def _require(present: Collection[str], wanted: Collection[str]) -> None:
    if missing := [column for column in wanted if column not in present]:
        raise ValueError(f"the column {missing[0]} is missing")


def _halves(path: Path) -> tuple[Image, Image]:
    from PIL import Image

    with Image.open(path, formats=("PNG",)) as opened:
        width, height = opened.size
        if width % 2 or width * height > PIXELS:
            raise ValueError(f"{width}×{height} pixels are not two panels side by side")
        picture = opened.convert("RGB")
    return picture.crop((0, 0, width // 2, height)), picture.crop((width // 2, 0, width, height))


def _images(scores: pd.DataFrame, split: pd.DataFrame | None) -> ImageSet:
    order = np.argsort(scores["image"].to_numpy(dtype=object), kind="stable")
    names = scores["image"].to_numpy(dtype=object)[order]
    labels = scores["label"].to_numpy()[order]
    listed = _hash(f"{name}\t{label}" for name, label in zip(names, labels, strict=True))
    if split is None:
        return ImageSet(listed, None)
    hashes = dict(zip(*(split[column].to_numpy(dtype=object) for column in ("image", "sha256")), strict=True))
    content = [hashes.get(name, "") for name in names]
    return ImageSet(listed, _hash(content) if all(content) else None)


def _hash(lines: Iterable[str]) -> str:
    return sha256("\n".join(lines).encode()).hexdigest()


def _some(run_ids: Collection[str]) -> str:
    named = ", ".join(list(run_ids)[:NAMED])
    return f"{named} and {len(run_ids) - NAMED} more" if len(run_ids) > NAMED else named

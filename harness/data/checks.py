"""Integrity of a category before anything is trained on it: everything that is wrong, in one list."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from harness.data.fingerprint import file_hash
from harness.data.masks import load_image, load_mask_values, load_regions, open_image
from harness.data.readers import image_files, subfolders
from harness.data.records import Category, Sample
from harness.errors import DataError

CHECKS_VERSION = 1  # raise it when a check of contents is added: sound content is then looked at again
ORIENTATION = 0x0112  # EXIF tag


class Problem(NamedTuple):
    """Something wrong with the data. An error makes numbers wrong, a warning wants to be known."""

    severity: Literal["error", "warning"]
    text: str


class _Facts(NamedTuple):
    shape: tuple[int, int]
    pixels: str  # hash of the decoded RGB pixels
    turned: bool  # the file asks viewers to rotate it


def check_category(category: Category, decode: bool = True) -> list[Problem]:
    """Decode every image and mask once and list all problems, errors first; [] for sound data.

    Without `decode` only what folders and names show, for content that is known to be sound.
    """
    facts: dict[str, _Facts] = {}
    problems = [*_check_counts(category), *_check_stray_files(category)]
    if not decode:
        return problems
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for sample, result in zip(category.samples, pool.map(_read, category.samples), strict=True):
            if isinstance(result, _Facts):
                facts[sample.name] = result
            else:
                problems.append(Problem("error", result))
    turned = [name for name, fact in facts.items() if fact.turned]
    if turned:
        problems.append(
            Problem(
                "warning",
                f"{category.root}: {_listed(turned)} would be rotated by a viewer (EXIF orientation), "
                "which is ignored here and by anomalib: make sure that masks fit the stored pixels.",
            )
        )
    for sample in category.samples:
        problems += _check_masks(category, sample, facts.get(sample.name))
    problems += _check_copies(category, facts)
    return sorted(problems, key=lambda problem: problem.severity)


def _read(sample: Sample) -> _Facts | str:
    try:
        pixels = load_image(sample.path)
        turned = open_image(sample.path, decode=False).getexif().get(ORIENTATION, 1) != 1
    except DataError as error:
        return str(error)
    return _Facts(pixels.shape[:2], hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(), turned)


def _check_counts(category: Category) -> Iterator[Problem]:
    root = category.root
    if not category.train:
        yield Problem("error", f"{root}/train/good has no image: put defect-free images there.")
    if not category.test:
        yield Problem("error", f"{root}/test has no image: put images into test/good and test/<defect>.")
    elif {s.label for s in category.test} != {0, 1}:
        absent = "good" if all(s.label for s in category.test) else "<defect>"
        yield Problem("error", f"{root}/test/{absent} has no image: no metric exists without both kinds.")


def _check_stray_files(category: Category) -> Iterator[Problem]:
    """Images and masks where the layout has no place for them, so that none is lost silently."""
    root = category.root
    for split in ("train", "validation"):
        for folder in subfolders(root / split):
            stray = image_files(folder)
            if folder.name != "good" and stray:
                yield Problem(
                    "error",
                    f"{folder} holds {len(stray)} images that are not used: only {split}/good is read; move them "
                    f"to test/{folder.name} or elsewhere.",
                )
    for split in ("train", "validation", "test"):
        loose = image_files(root / split)
        if loose:
            yield Problem(
                "error",
                f"{root / split} holds {_listed([f.name for f in loose])} outside any folder: move them.",
            )
        deep = [f for folder in subfolders(root / split) for sub in subfolders(folder) for f in image_files(sub)]
        if deep:
            yield Problem("error", f"{deep[0].parent} is a folder too deep, its images are not used: move them up.")
    used = {mask for sample in (*category.samples, *category.left_out) for mask in sample.masks}
    for defect in subfolders(root / "ground_truth"):
        for mask in [*image_files(defect), *(f for sub in subfolders(defect) for f in image_files(sub))]:
            if mask not in used and not _black(mask, defect.name == "good"):
                yield Problem("error", f"{mask} belongs to no image of test/{defect.name}: rename or remove it.")


def _black(path: Path, good: bool) -> bool:
    """Masks of good images are allowed where they say so: all black."""
    try:
        return good and not load_mask_values(path).any()
    except DataError:
        return False


def _check_masks(category: Category, sample: Sample, facts: _Facts | None) -> Iterator[Problem]:
    if sample.split != "test" or not sample.label or not category.masked:
        return
    if not sample.masks:
        yield Problem(
            "error",
            f"{sample.path} has no mask, though other images of the category have: add "
            f"ground_truth/{sample.defect}/{sample.path.stem}_mask.png or remove the image.",
        )
        return
    for path in sample.masks:
        try:
            shape = load_mask_values(path).shape
        except DataError as error:
            yield Problem("error", str(error))
            return
        if facts and shape != facts.shape:
            (h, w), (mh, mw) = facts.shape, shape
            yield Problem("error", f"{path} is {mw}×{mh} but its image is {w}×{h}: make them the same size.")
            return
    try:
        if not load_regions(category, sample):
            yield Problem("warning", f"{sample.masks[0]} is all black though {sample.name} counts as anomalous.")
    except DataError as error:
        yield Problem("error", str(error))


def _check_copies(category: Category, facts: dict[str, _Facts]) -> Iterator[Problem]:
    """The same image (by bytes, or by pixels if saved anew) in training and test, or under two labels."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in category.samples:
        if sample.name in facts:
            groups[facts[sample.name].pixels].append(sample)
    for group in groups.values():
        tested = [s for s in group if s.split == "test"]
        trained = [s for s in group if s.split != "test"]
        if tested and trained:
            same = "file" if len({file_hash(s.path) for s in group}) == 1 else "image"
            yield Problem(
                "error",
                f"{category.root}: {trained[0].name} and {_listed([s.name for s in tested])} are the same "
                f"{same}: a test image must not be trained on; remove one.",
            )
        if len({s.label for s in tested}) == 2:
            yield Problem(
                "error",
                f"{category.root}: {_listed([s.name for s in tested])} are the same image, labelled good and "
                "anomalous: remove the wrong one.",
            )


def _listed(names: list[str], shown: int = 3) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")

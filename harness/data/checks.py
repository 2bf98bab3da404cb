"""Integrity of a category before anything is trained on it: everything that is wrong, in one list."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from PIL.Image import Image

from harness.data.fingerprint import file_hash
from harness.data.masks import as_rgb, is_sixteen_bit, load_mask_values, load_regions, open_image
from harness.data.readers import image_files, subfolders
from harness.data.records import Category, Sample
from harness.errors import DataError

CHECKS_VERSION = 2  # raise it when a check of contents is added: sound content is then looked at again
ORIENTATION = 0x0112  # EXIF tag
DARK = {12: 16, 14: 64}  # bits of a camera -> the brightest of 256 grey levels that its pixels have in 16-bit files


class Problem(NamedTuple):
    """Something wrong with the data. An error makes numbers wrong, a warning wants to be known."""

    severity: Literal["error", "warning"]
    text: str


class _Facts(NamedTuple):
    shape: tuple[int, int]
    pixels: str  # hash of the decoded RGB pixels
    turned: bool  # the file asks viewers to rotate it
    sixteen: int | None  # of a 16-bit image, the brightest of 256 grey levels


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
    problems += [*_check_turns(category, facts), *_check_depth(category, facts)]
    for sample in category.samples:
        problems += _check_masks(category, sample, facts.get(sample.name))
    problems += _check_copies(category, facts)
    return sorted(problems, key=lambda problem: problem.severity)


def _read(sample: Sample) -> _Facts | str:
    try:
        image = open_image(sample.path)
        pixels = as_rgb(image, sample.path)
    except DataError as error:
        return str(error)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return _Facts(pixels.shape[:2], digest, _is_turned(image), int(pixels.max()) if is_sixteen_bit(image) else None)


def _is_turned(image: Image) -> bool:
    try:
        return bool(image.getexif().get(ORIENTATION, 1) != 1)
    except Exception:  # damaged metadata of a sound image make Pillow raise almost anything
        return False


def _check_turns(category: Category, facts: Mapping[str, _Facts]) -> Iterator[Problem]:
    if turned := [name for name, fact in facts.items() if fact.turned]:
        yield Problem(
            "warning",
            f"{category.root}: {_listed(turned)} would be rotated by a viewer (EXIF orientation), "
            "which is ignored here and by anomalib: make sure that masks fit the stored pixels.",
        )


def _check_depth(category: Category, facts: Mapping[str, _Facts]) -> Iterator[Problem]:
    """Cameras of 10 to 14 bits write files of 16: unless they scale their values, these are read as nearly black."""
    brightest = [fact.sixteen for fact in facts.values() if fact.sixteen is not None]
    for bits, level in DARK.items():
        if brightest and max(brightest) <= level:
            yield Problem(
                "error" if bits == min(DARK) else "warning",
                f"{category.root} has 16-bit images that are darker than {bits} bits can be, and would be read so: "
                f"multiply their pixels by {2 ** (16 - bits)}, so that white is 65535.",
            )
            return


def _check_counts(category: Category) -> Iterator[Problem]:
    root = category.root
    if not category.train:
        yield Problem("error", f"{root}/train/good has no image: put defect-free images there.")
    if not category.test:
        yield Problem("error", f"{root}/test has no image: put images into test/good and test/<defect>.")
    elif {s.label for s in category.test} != {0, 1}:
        absent = "good" if all(s.label for s in category.test) else "<defect>"
        yield Problem("error", f"{root}/test/{absent} has no image: put some there, for metrics need both kinds.")


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

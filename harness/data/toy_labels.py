"""The toy data set of labels: `vin_label`, as in paper 004, with a table of metadata beside the images.

Printed labels, white on black, in two layouts, that stick on a car in four directions. Stationary cameras take them in
even, grey light, mobile ones in any light; damaged labels (`crack`, `bubble`, `corner`) are all from mobile cameras.
What a label looks like upright is what `rotation` of its row turns it to.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.data.metadata import IMAGE, METADATA_FILE
from harness.data.toy_drawing import Array, Canvas, noise, photograph, wander

NAME = "vin_label"
COUNTS = {
    ("train", "good"): 48,
    ("test", "good"): 24,
    ("test", "crack"): 10,
    ("test", "bubble"): 8,
    ("test", "corner"): 8,
}
LAYOUTS = ("rest_of_world", "korea")
COLUMNS = (IMAGE, "camera", "layout", "rotation", "shot")

Image = npt.NDArray[np.uint8]
Write = Callable[[Path, Image], None]


def draw_labels(root: Path, write: Write) -> None:
    """Draw the category into a folder, with an image writer."""
    rows: list[tuple[str, str, str, int, int]] = []
    for number, ((split, defect), count) in enumerate(COUNTS.items()):
        for i in range(count):
            rng = np.random.default_rng([7, number, i])
            camera = "mobile" if defect != "good" or i % 3 == 2 else "stationary"
            layout, turns = LAYOUTS[i % 2], int(rng.integers(4))
            image, cover = _label(rng, layout, camera, defect)
            name = f"{split}/{defect}/{i:03d}.png"
            write(root / name, np.ascontiguousarray(np.rot90(image, turns)))
            if cover is not None:
                mask = (np.rot90(cover, turns) > 0.3).astype(np.uint8) * 255
                write(root / "ground_truth" / defect / f"{i:03d}_mask.png", np.ascontiguousarray(mask))
            rows.append((name, camera, layout, 90 * turns, len(rows)))
    with (root / METADATA_FILE).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def _label(rng: np.random.Generator, layout: str, camera: str, defect: str) -> tuple[Image, Array | None]:
    """A label upright, 72×112, and the cover of its defect."""
    canvas = Canvas(72, 112, (0.45, 0.46, 0.48))
    canvas.shade(0.02 * noise(rng, canvas.shape, 20))
    cx, cy, angle = 56 + rng.uniform(-1.5, 1.5), 36 + rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5)
    label = canvas.box(cx, cy, (50, 30), angle, 3)
    canvas.paint(label, (0.07, 0.07, 0.08))
    _print(canvas, rng, layout, cx, cy, angle)
    cover = _damage(canvas, rng, label, cx, cy, defect) if defect != "good" else None
    stationary = camera == "stationary"
    image = photograph(rng, canvas, light=0.03 if stationary else 0.2, grain=0.008 if stationary else 0.012)
    if stationary:
        image = np.repeat(image[..., 1:2], 3, axis=2)
    return image, cover


def _print(canvas: Canvas, rng: np.random.Generator, layout: str, cx: float, cy: float, angle: float) -> None:
    """Lines of characters, each a pair of strokes; the first line is a number that differs from label to label."""
    white = (0.86, 0.87, 0.88)
    rows = (
        ((-20, 17, 5.0), (-8, 12, 3.2), (0, 14, 3.2), (8, 10, 3.2))
        if layout == LAYOUTS[0]
        else ((-21, 10, 3.2), (-12, 14, 3.2), (2, 17, 5.0))
    )
    for y, letters, height in rows:
        pitch = 84 / 17 if height > 4 else 5.0
        for i in range(letters):
            x = -42 + pitch * (i + 0.5)
            kind = int(rng.integers(3)) if height > 4 else (i * 7 + letters) % 3
            canvas.paint(0.9 * canvas.box(cx + x, cy + y, (0.7, height / 2), angle), white)
            if kind:
                dy = (-height / 2 + 0.5, 0.0)[kind - 1]
                canvas.paint(0.9 * canvas.box(cx + x + 1, cy + y + dy, (1.2, 0.6), angle), white)
    if layout == LAYOUTS[0]:
        canvas.paint(0.9 * canvas.box(cx, cy + 21, (42, 3.5), angle), white)
        for i in range(20):
            bar = canvas.box(cx - 40 + 4 * i + i * i % 3, cy + 21, (0.6 + i % 2, 3.5), angle)
            canvas.paint(0.95 * bar, (0.07, 0.07, 0.08))
    else:
        canvas.paint(0.9 * canvas.box(cx + 30, cy + 18, (10, 8), angle, 2), white)


def _damage(canvas: Canvas, rng: np.random.Generator, label: Array, cx: float, cy: float, defect: str) -> Array:
    strength = rng.uniform(0.35, 1.0)
    if defect == "crack":
        start = (cx + rng.uniform(-45, 45), cy - 30)
        line = canvas.stroke(
            wander(rng, start, 90 + rng.uniform(-35, 35), rng.uniform(35, 60), 22), rng.uniform(1, 2.5)
        )
        canvas.paint(strength * line * label, (0.62, 0.62, 0.60))
        return line * label
    if defect == "bubble":
        x, y, radius = cx + rng.uniform(-38, 38), cy + rng.uniform(-20, 20), rng.uniform(5, 10)
        blob = canvas.blob(rng, x, y, radius, soft=1.5) * label
        across, down = canvas.turned(x, y)
        canvas.shade(strength * 0.4 * blob * np.clip((across + down) / radius, -1, 1))
        canvas.shade(strength * 0.15 * blob)
        return blob
    x, y = cx + 48 * rng.choice([-1, 1]), cy + 28 * rng.choice([-1, 1])
    corner = canvas.blob(rng, x, y, rng.uniform(7, 13)) * label
    canvas.paint(strength * corner, (0.55, 0.55, 0.53))
    return corner

"""The three toy categories: a texture, an object with logical defects, and a wide part cut by the image edge.

Each defect has a strength drawn from barely visible to plain, so that no method separates all of it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.data.toy_drawing import Array, Canvas, noise, photograph, soft_edge, wander

Image = npt.NDArray[np.uint8]
Regions = list[Array]  # covers H×W in [0, 1]
Rng = np.random.Generator


class Scene(NamedTuple):
    """A toy category: `draw(rng, defect)` gives an image uint8 H×W×3 and the covers of its defect regions."""

    draw: Callable[[Rng, str], tuple[Image, Regions]]
    defects: dict[str, int]  # defect -> number of test images
    saturation: dict[str, tuple[float, bool]]  # defect -> (threshold, relative); {}: plain masks


def granite_tile(rng: Rng, defect: str) -> tuple[Image, Regions]:
    """A polished granite tile, 128×128: `scratch`, `stain`, `chip`."""
    canvas = Canvas(128, 128, (0.52, 0.50, 0.47))
    canvas.shade(0.05 * noise(rng, canvas.shape, 30) + 0.05 * noise(rng, canvas.shape, 11))
    for rarity, colour in (
        (0.26, (0.30, 0.29, 0.30)),
        (0.30, (0.66, 0.60, 0.53)),
        (0.34, (0.72, 0.72, 0.71)),
    ):
        # Three noises that share no grid: the sum has no direction.
        grain = (noise(rng, canvas.shape, 2.6) + noise(rng, canvas.shape, 3.7) + noise(rng, canvas.shape, 5.3)) / 2
        canvas.paint(soft_edge((rarity - grain) * 5, 1.2) * (0.6 + 0.3 * noise(rng, canvas.shape, 9)), colour)
    canvas.shade(0.02 * noise(rng, canvas.shape, 2))
    regions: Regions = []
    x, y = rng.uniform(22, 106, 2)
    if defect == "scratch":
        length, width = rng.uniform(30, 70), rng.uniform(1.1, 2.4)
        line = canvas.stroke(wander(rng, (x, y), rng.uniform(0, 360), length, 12), width)
        bright = 0.88 if rng.random() < 0.5 else 0.18
        canvas.paint(line * rng.uniform(0.35, 0.8), (bright, bright, bright))
        regions = [line]
    elif defect == "stain":
        blob = canvas.blob(rng, x, y, rng.uniform(8, 17), soft=3)
        tint = np.array([0.80, 0.70, 0.52]) if rng.random() < 0.6 else np.array([0.70, 0.74, 0.80])
        canvas.paint(blob * rng.uniform(0.35, 0.8), canvas.pixels * tint)
        regions = [blob]
    elif defect == "chip":
        radius = rng.uniform(3, 6.5)
        seed = int(rng.integers(2**32))
        rim = canvas.blob(np.random.default_rng(seed), x, y, radius + 1.5)
        hole = canvas.blob(np.random.default_rng(seed), x + 0.7, y + 0.7, radius)
        canvas.paint(rim * 0.4, (0.75, 0.73, 0.70))
        canvas.paint(hole * rng.uniform(0.4, 0.85), (0.20, 0.19, 0.19))
        regions = [rim]
    return photograph(rng, canvas, light=0.05, grain=0.008), regions


def bolted_plate(rng: Rng, defect: str) -> tuple[Image, Regions]:
    """A brushed plate with four bolts, a bore and a label, 144×144, placed with play.

    Logical: `missing_bolt`, `misplaced_label` (where it is and where it should be: two regions). Structural:
    `dent`, `scratch`.
    """
    canvas = Canvas(144, 144, (0.16, 0.17, 0.19))
    canvas.shade(0.02 * noise(rng, canvas.shape, 18) + 0.01 * noise(rng, canvas.shape, 3))
    cx, cy = 72 + rng.uniform(-2.5, 2.5, 2)
    angle = rng.uniform(-1.5, 1.5)

    def at(x: float, y: float) -> tuple[float, float]:
        turn = np.deg2rad(angle)
        return cx + x * float(np.cos(turn)) - y * float(np.sin(turn)), cy + x * float(np.sin(turn)) + y * float(
            np.cos(turn)
        )

    canvas.paint(0.55 * canvas.box(cx + 2.5, cy + 3, (57, 47), angle, 9), (0.05, 0.05, 0.06))
    plate = canvas.box(cx, cy, (56, 46), angle, 8)
    brushed = 0.02 * noise(rng, canvas.shape, 1.3, 26) + 0.02 * noise(rng, canvas.shape, 34)
    metal = np.array([0.60, 0.62, 0.64]) + brushed[..., None]
    canvas.paint(plate, metal)
    canvas.shade(0.10 * plate * (1 - canvas.box(cx + 0.8, cy + 0.8, (55, 45), angle, 7)))
    canvas.paint(canvas.disc(*at(14, -4), 15.5), (0.74, 0.75, 0.76))
    canvas.paint(canvas.disc(*at(14, -4), 13.5), (0.12, 0.12, 0.13))

    bolts = [at(x, y) for x in (-44.0, 44.0) for y in (-34.0, 34.0)]
    missing = int(rng.integers(4)) if defect == "missing_bolt" else -1
    for i, (x, y) in enumerate(bolts):
        _bolt(canvas, rng, x, y, present=i != missing)
    regular, misplaced = at(-22, 4), at(*((16, 30) if rng.random() < 0.5 else (-22, -26)))
    label = misplaced if defect == "misplaced_label" else regular
    canvas.paint(0.95 * canvas.box(*label, (13, 6.5), angle, 1), (0.86, 0.70, 0.24))
    for row in (-2.5, 1.5):
        canvas.paint(0.7 * canvas.box(label[0], label[1] + row, (9.5, 0.9), angle), (0.22, 0.18, 0.10))

    regions: Regions = []
    if defect == "missing_bolt":
        regions = [canvas.disc(*bolts[missing], 8.5)]
    elif defect == "misplaced_label":
        regions = [canvas.box(*place, (14, 7.5), angle, 1) for place in (regular, misplaced)]
    elif defect == "dent":
        regions = [_dent(canvas, rng, *at(rng.uniform(-48, 48), rng.choice([-38.0, 26.0, 36.0])))]
    elif defect == "scratch":
        start = at(rng.uniform(-40, 25), rng.uniform(20, 38) * rng.choice([-1, 1]))
        line = canvas.stroke(wander(rng, start, rng.uniform(-50, 50), rng.uniform(22, 50), 14), rng.uniform(1.1, 2.2))
        canvas.paint(line * rng.uniform(0.15, 0.9), (0.95, 0.95, 0.95))
        regions = [line]
    return photograph(rng, canvas, light=0.05, grain=0.008), regions


def conveyor_rail(rng: Rng, defect: str) -> tuple[Image, Regions]:
    """A slotted rail that runs out of a 192×112 image on both sides; most defects lie in the outer quarters.

    `chipped_edge`, `crack`, `debris`: a centre crop hides many of them, padding none.
    """
    canvas = Canvas(112, 192, (0.20, 0.22, 0.21))
    canvas.shade(0.03 * noise(rng, canvas.shape, 22) + 0.015 * noise(rng, canvas.shape, 4))
    top, bottom = 14 + rng.uniform(-2, 2), 98 + rng.uniform(-2, 2)
    tilt = rng.uniform(-0.012, 0.012)
    slope = tilt * (canvas.x - 96)
    rail = soft_edge(top + slope - canvas.y) * soft_edge(canvas.y - bottom - slope)
    regions: Regions = []
    left = rng.random() < 0.5
    x = rng.uniform(3, 20) if left else rng.uniform(172, 189)
    if rng.random() < 0.2:
        x = rng.uniform(40, 152)
    edge = (top if rng.random() < 0.5 else bottom) + tilt * (x - 96)
    if defect == "chipped_edge":
        bite = canvas.blob(rng, x, edge, rng.uniform(3.5, 10))
        regions = [bite * rail]
        rail = rail * (1 - bite)
    brushed = 0.02 * noise(rng, canvas.shape, 1.4, 30) + 0.02 * noise(rng, canvas.shape, 40)
    canvas.paint(rail, np.array([0.49, 0.53, 0.56]) + brushed[..., None])
    for y in (top, bottom):
        lip = soft_edge(np.abs(canvas.y - slope - y - (5 if y == top else -5)) - 1.2)
        canvas.paint(0.5 * lip * rail, (0.74, 0.76, 0.78))
    phase, middle = rng.uniform(4, 22), (top + bottom) / 2
    for centre in np.arange(-40, 240, 40) + phase:
        level = middle + tilt * (centre - 96)
        canvas.paint(canvas.box(centre, level, (12.5, 8), 0, 8), (0.70, 0.72, 0.74))
        canvas.paint(canvas.box(centre + 0.5, level + 0.7, (11.3, 6.8), 0, 6.8), (0.10, 0.11, 0.11))
        canvas.paint(canvas.disc(centre + 20, level - 24, 2.6), (0.16, 0.17, 0.18))
    if defect == "crack":
        start = (0.0 if left else 192.0, rng.choice([rng.uniform(22, 42), rng.uniform(72, 90)]))
        path = wander(rng, start, 0 if left else 180, rng.uniform(18, 44), 35)
        line = canvas.stroke(path, rng.uniform(1.4, 2.8)) * rail
        canvas.paint(line * rng.uniform(0.3, 1.0), (0.14, 0.13, 0.13))
        regions = [line]
    elif defect == "debris":
        blob = canvas.blob(rng, x, rng.choice([rng.uniform(22, 40), rng.uniform(74, 90)]), rng.uniform(4, 9))
        canvas.paint(blob * rng.uniform(0.15, 1.0), (0.36, 0.22, 0.10) if rng.random() < 0.6 else (0.22, 0.25, 0.20))
        regions = [blob]
    return photograph(rng, canvas, light=0.05, grain=0.008), regions


def _bolt(canvas: Canvas, rng: Rng, x: float, y: float, present: bool) -> None:
    canvas.paint(0.5 * canvas.disc(x + 1, y + 1.2, 7.4, 1.5), (0.25, 0.26, 0.27))
    if not present:
        canvas.paint(canvas.disc(x, y, 4.8), (0.10, 0.10, 0.11))
        canvas.shade(0.12 * canvas.disc(x + 0.6, y + 0.8, 5.4) * (1 - canvas.disc(x, y, 4.8)))
        return
    tone = 0.80 + rng.uniform(-0.03, 0.03)
    canvas.paint(canvas.disc(x, y, 7), (tone, tone, tone + 0.02))
    canvas.shade(0.14 * canvas.disc(x - 1.6, y - 1.8, 3.4, 3) * canvas.disc(x, y, 7))
    turn = rng.uniform(0, 180)
    for quarter in (0, 90):
        canvas.paint(0.85 * canvas.box(x, y, (4.4, 0.9), turn + quarter), (0.14, 0.14, 0.15))


def _dent(canvas: Canvas, rng: Rng, x: float, y: float) -> Array:
    radius, depth = rng.uniform(5, 10), rng.uniform(0.05, 0.35)
    pit = canvas.disc(x, y, radius, soft=radius / 2)
    across, down = canvas.turned(x, y)
    canvas.shade(depth * pit * np.clip((across + down) / radius, -1, 1))
    canvas.shade(-0.3 * depth * pit)
    return canvas.disc(x, y, radius)


SCENES: dict[str, Scene] = {
    "granite_tile": Scene(granite_tile, {"scratch": 6, "stain": 5, "chip": 5}, {}),
    # As in AutoVI: an absent item counts as found at 70 % of its area, a displaced one at its size.
    "bolted_plate": Scene(
        bolted_plate,
        {"missing_bolt": 5, "misplaced_label": 3, "dent": 4, "scratch": 4},
        {
            "missing_bolt": (0.7, True),
            "misplaced_label": (338, False),
            "dent": (1.0, True),
            "scratch": (1.0, True),
        },
    ),
    "conveyor_rail": Scene(conveyor_rail, {"chipped_edge": 6, "crack": 5, "debris": 5}, {}),
}

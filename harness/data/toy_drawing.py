"""A small renderer for the toy data: smooth noise, soft-edged shapes, a camera.

Only additions, multiplications, divisions and square roots touch the pixels (angles are scalars): those are
exact by IEEE 754, so that every machine draws the same bytes.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Colour = tuple[float, float, float]


class Canvas:
    """An H×W scene: `pixels` float64 H×W×3, about [0, 1], with pixel-centre coordinates `x` and `y`."""

    def __init__(self, height: int, width: int, colour: Colour) -> None:
        self.shape = (height, width)
        self.pixels: Array = np.empty((height, width, 3))
        self.pixels[:] = colour
        self.y, self.x = (axis + 0.5 for axis in np.mgrid[0:height, 0:width].astype(np.float64))

    def paint(self, cover: Array, colour: Colour | Array) -> None:
        """Blend a colour (one, or H×W×3) over the scene where `cover` H×W in [0, 1] says so."""
        self.pixels += cover[..., None] * (np.asarray(colour) - self.pixels)

    def shade(self, amount: Array) -> None:
        """Lighten (positive) or darken (negative) by H×W, in grey values."""
        self.pixels += amount[..., None]

    def turned(self, cx: float, cy: float, degrees: float = 0.0) -> tuple[Array, Array]:
        """Coordinates around a centre, turned."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = self.x - cx, self.y - cy
        return c * x + s * y, c * y - s * x

    def disc(self, cx: float, cy: float, radius: float, soft: float = 0.8) -> Array:
        """Cover of a disc."""
        x, y = self.turned(cx, cy)
        return soft_edge(np.sqrt(x * x + y * y) - radius, soft)

    def box(self, cx: float, cy: float, half: tuple[float, float], degrees: float = 0.0, corner: float = 0.0) -> Array:
        """Cover of a turned box of half width and half height, with rounded corners."""
        x, y = self.turned(cx, cy, degrees)
        dx, dy = np.abs(x) - (half[0] - corner), np.abs(y) - (half[1] - corner)
        outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
        return soft_edge(outside + np.minimum(np.maximum(dx, dy), 0) - corner)

    def stroke(self, points: Sequence[tuple[float, float]], width: float) -> Array:
        """Cover of a polyline of (x, y) points."""
        distance = np.full(self.shape, np.inf)
        for (x0, y0), (x1, y1) in pairwise(points):
            dx, dy = x1 - x0, y1 - y0
            t = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
            px, py = self.x - x0 - t * dx, self.y - y0 - t * dy
            distance = np.minimum(distance, np.sqrt(px * px + py * py))
        return soft_edge(distance - width / 2)

    def blob(self, rng: np.random.Generator, cx: float, cy: float, radius: float, soft: float = 0.8) -> Array:
        """Cover of an irregular blob: a disc whose rim follows smooth noise."""
        x, y = self.turned(cx, cy)
        rim = 1 + 0.5 * noise(rng, self.shape, max(4.0, 0.7 * radius))
        return soft_edge(np.sqrt(x * x + y * y) - radius * rim, soft)


def soft_edge(distance: Array, soft: float = 0.8) -> Array:
    """Cover in [0, 1] of a signed distance in pixels: 1 inside, a smooth step of 2·soft pixels at the rim."""
    t = np.clip(0.5 - distance / (2 * soft), 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float, aspect: float = 1.0) -> Array:
    """Smooth value noise H×W in [-1, 1]; features about `cell` pixels high and `cell * aspect` wide."""
    out = rng.uniform(-1, 1, (int(shape[0] / cell) + 3, int(shape[1] / (cell * aspect)) + 3))
    phase = rng.uniform(0, 1, 2)
    for axis, (length, step) in enumerate(zip(shape, (cell, cell * aspect), strict=True)):
        position = np.arange(length) / step + phase[axis]
        index = position.astype(np.intp)
        t = position - index
        t = t * t * (3 - 2 * t)
        t = t[:, None] if axis == 0 else t
        out = np.take(out, index, axis) * (1 - t) + np.take(out, index + 1, axis) * t
    return out


def wander(
    rng: np.random.Generator, start: tuple[float, float], heading: float, length: float, bend: float
) -> list[tuple[float, float]]:
    """Points of a crooked line from `start`, `heading` in degrees, turning by up to `bend` a step."""
    points, step = [start], 4.0
    for _ in range(max(2, round(length / step))):
        heading += rng.uniform(-bend, bend)
        x, y = points[-1]
        points.append((x + step * math.cos(math.radians(heading)), y + step * math.sin(math.radians(heading))))
    return points


def photograph(rng: np.random.Generator, canvas: Canvas, light: float, grain: float) -> npt.NDArray[np.uint8]:
    """What an inspection camera makes of the scene: uneven light, exposure, tint and grain. uint8 H×W×3."""
    h, w = canvas.shape
    slope_x, slope_y = rng.uniform(-light, light, 2)
    gain = 1 + slope_x * (canvas.x / w - 0.5) + slope_y * (canvas.y / h - 0.5) + rng.uniform(-light, light) / 2
    gain += 0.3 * light * noise(rng, canvas.shape, 0.6 * h)
    tint = 1 + rng.uniform(-0.08, 0.08, 3) * light
    pixels = canvas.pixels * gain[..., None] * tint
    # One grain for all channels and a little for each, as a demosaiced sensor has.
    pixels += rng.normal(0, grain, (h, w, 1)) + rng.normal(0, grain / 2, (h, w, 3))
    return np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)

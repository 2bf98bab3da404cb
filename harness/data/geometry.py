"""Preprocessing as geometry: what of an image the model sees, and where its answer belongs in the image.

Four modes (paper 000 section II-A argues for `pad`; the others are what the field does):

- `resize`: the whole image to a square, aspect lost;
- `center_crop`: the whole image to a square of `resize`, then its centre of `size`;
- `pad`: the longest side to `size`, aspect kept, centred, the rest filled;
- `window`: a fixed window of native pixels around the image centre, resized to a square.

Maps and truths can be compared at two resolutions, `model` (pixels of the model input) or `native` (pixels of
the image file), in two frames: `visible` (what the model saw, without padding) or `full` (the whole image,
where a defect that was cropped away counts as missed).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2.functional import resize, rgb_to_grayscale

from harness.errors import ConfigError, WindowError

Rectangle = tuple[slice, slice]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
MODES = ("resize", "center_crop", "pad", "window")


class PreprocessLike(Protocol):
    """What geometry needs of `harness.schema.PreprocessConfig`."""

    mode: str
    size: int
    resize: int | None
    window: list[int] | None
    fill: float
    grey: bool


class _Layout(NamedTuple):
    """How one image size maps to the model input."""

    box: Rectangle  # native pixels that the model sees
    scaled: tuple[int, int]  # H, W of the whole image at model scale
    inset: Rectangle  # where the visible part lies in the scaled image
    content: Rectangle  # where it lies in the model input


def build_geometry(preprocess: PreprocessLike) -> "Geometry":
    """Validate a preprocessing configuration and build its geometry.

    Raises:
        ConfigError: an unknown mode, or a mode without the sizes it needs.
    """
    mode, size = preprocess.mode, preprocess.size
    if mode not in MODES:
        raise ConfigError(f"Unknown preprocess.mode {mode!r}: choose one of {', '.join(MODES)}.")
    if size < 1:
        raise ConfigError(f"preprocess.size must be positive, not {size}.")
    if mode == "center_crop" and (preprocess.resize is None or preprocess.resize < size):
        raise ConfigError(
            f"preprocess.mode=center_crop needs preprocess.resize of at least preprocess.size={size}, "
            f"not {preprocess.resize}."
        )
    window = preprocess.window or []
    if mode == "window" and (len(window) != 2 or min(window) < 1):
        raise ConfigError(f"preprocess.mode=window needs preprocess.window=[width,height], not {preprocess.window}.")
    if not 0 <= preprocess.fill <= 1:
        raise ConfigError(f"preprocess.fill is a grey value in [0, 1], not {preprocess.fill}.")
    square = (preprocess.resize or size) if mode == "center_crop" else size
    seen = (window[0], window[1]) if mode == "window" else None
    return Geometry(mode, size, square, seen, preprocess.fill, preprocess.grey)


@dataclass(frozen=True)
class Geometry:
    """The one transform of train and test images, and its way back. Built by `build_geometry`."""

    mode: str
    size: int
    square: int  # the square that `resize` and `center_crop` scale the image to
    window: tuple[int, int] | None  # width, height
    fill: float
    grey: bool = False  # colours become their luminance, in three equal channels

    def image(self, image: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Model input, float32 3×size×size in [0, 1], of an image uint8 H×W×3.

        Resized as floats, bilinear with antialiasing: `mode=resize` equals anomalib's `Resize((size, size))`.
        """
        layout = self._layout(*image.shape[:2])
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).to(torch.float32) / 255
        if self.grey:
            pixels = rgb_to_grayscale(pixels, num_output_channels=3)
        if self.mode == "window":
            return resize(pixels[:, *layout.box], [self.size, self.size], antialias=True)
        visible = resize(pixels, list(layout.scaled), antialias=True)[:, *layout.inset]
        if self.mode != "pad":
            return visible.contiguous()
        padded = torch.full((3, self.size, self.size), self.fill)
        padded[:, *layout.content] = visible
        return padded

    def mask(self, mask: BoolArray) -> BoolArray:
        """The mask of the model input, bool size×size, of a mask H×W: nearest neighbour, padding False."""
        layout = self._layout(*mask.shape)
        out = np.zeros((self.size, self.size), dtype=bool)
        out[layout.content] = self._visible_mask(mask, layout)
        return out

    def content(self, h: int, w: int) -> Rectangle:
        """Rows and columns of the model input that show the image of h×w pixels, not padding."""
        return self._layout(h, w).content

    def place(self, scores: Any, h: int, w: int, resolution: str, frame: str, outside: float = 0.0) -> FloatArray:
        """Put a map of the model input (size×size, array or tensor) where it belongs in an image of h×w.

        Shapes: model/visible the content; model/full the whole image at model scale; native/visible the
        native pixels that were seen (bilinear); native/full h×w. What the model did not see is `outside`.
        """
        layout = self._layout(h, w)
        visible = _array(scores)[layout.content]
        if resolution == "model":
            return visible if frame == "visible" else _put(layout.scaled, layout.inset, visible, outside)
        native = self._to_native(visible, layout, h, w)
        return native if frame == "visible" else _put((h, w), layout.box, native, outside)

    def truth(self, region: BoolArray, resolution: str, frame: str) -> BoolArray:
        """A region bool H×W in exactly the shape that `place` gives a map of that image."""
        layout = self._layout(*region.shape)
        if resolution == "native":
            return region[layout.box] if frame == "visible" else region
        visible = self._visible_mask(region, layout)
        if frame == "visible":
            return visible
        whole = _nearest(region, layout.scaled)
        whole[layout.inset] = visible
        return whole

    def regions(
        self, regions: Sequence[tuple[BoolArray, float]], resolution: str, frame: str
    ) -> list[tuple[BoolArray, float]]:
        """Regions with their saturation areas, as `truth` places them.

        The area that saturates a region keeps its share of the region, so that a plain region still saturates
        at its whole area whatever nearest-neighbour sampling did to it. A region of which no pixel is left is
        dropped.
        """
        placed = [(self.truth(mask, resolution, frame), area, int(mask.sum())) for mask, area in regions]
        return [(mask, area * int(mask.sum()) / native) for mask, area, native in placed if mask.any()]

    def _layout(self, h: int, w: int) -> _Layout:
        whole = (slice(0, h), slice(0, w))
        all_input = (slice(0, self.size), slice(0, self.size))
        if self.mode == "resize":
            return _Layout(whole, (self.size, self.size), all_input, all_input)
        if self.mode == "center_crop":
            start = round((self.square - self.size) / 2)  # as torchvision's CenterCrop rounds
            rows, columns = (_centres_inside(n, self.square, start, self.size) for n in (h, w))
            inset = slice(start, start + self.size)
            return _Layout((rows, columns), (self.square, self.square), (inset, inset), all_input)
        if self.mode == "pad":
            scale = self.size / max(h, w)
            rh, rw = (max(1, min(self.size, round(n * scale))) for n in (h, w))
            top, left = (self.size - rh) // 2, (self.size - rw) // 2
            content = (slice(top, top + rh), slice(left, left + rw))
            return _Layout(whole, (rh, rw), (slice(0, rh), slice(0, rw)), content)
        return self._window_layout(h, w)

    def _window_layout(self, h: int, w: int) -> _Layout:
        assert self.window is not None
        ww, wh = self.window
        if ww > w or wh > h:
            raise WindowError(
                f"preprocess.window=[{ww},{wh}] (width, height) does not fit an image of {w}×{h}: shrink it, or give "
                "images that were not cropped."
            )
        top, left = (h - wh) // 2, (w - ww) // 2
        box = (slice(top, top + wh), slice(left, left + ww))
        scaled = (max(self.size, round(h * self.size / wh)), max(self.size, round(w * self.size / ww)))
        y = min(round(top * self.size / wh), scaled[0] - self.size)
        x = min(round(left * self.size / ww), scaled[1] - self.size)
        inset = (slice(y, y + self.size), slice(x, x + self.size))
        return _Layout(box, scaled, inset, (slice(0, self.size), slice(0, self.size)))

    def _visible_mask(self, mask: BoolArray, layout: _Layout) -> BoolArray:
        if self.mode == "window":
            return _nearest(mask[layout.box], (self.size, self.size))
        return _nearest(mask, layout.scaled)[layout.inset]

    def _to_native(self, visible: FloatArray, layout: _Layout, h: int, w: int) -> FloatArray:
        rows, columns = layout.box
        if self.mode != "center_crop":
            return _bilinear(visible, (rows.stop - rows.start, columns.stop - columns.start))
        # A crop's edge falls between native pixels: interpolate in the whole image's frame, edges repeated.
        before = layout.inset[0].start
        after = self.square - layout.inset[0].stop
        return _bilinear(np.pad(visible, (before, after), mode="edge"), (h, w))[layout.box]


def _centres_inside(n: int, scaled: int, start: int, length: int) -> slice:
    """Of n native pixels scaled to `scaled`, those with centres in [start, start + length); at least one."""
    first = min(max(0, _first_centre(n, scaled, start)), n - 1)
    return slice(first, max(first + 1, min(n, _first_centre(n, scaled, start + length))))


def _first_centre(n: int, scaled: int, edge: int) -> int:
    """Smallest i with (i + 1/2) * scaled / n >= edge, in whole numbers."""
    return -((scaled - 2 * edge * n) // (2 * scaled))


def _put(shape: tuple[int, int], where: Rectangle, values: FloatArray, outside: float) -> FloatArray:
    canvas = np.full(shape, outside, dtype=np.float32)
    canvas[where] = values
    return canvas


def _array(scores: Any) -> FloatArray:
    array = scores.detach().cpu().numpy() if isinstance(scores, torch.Tensor) else np.asarray(scores)
    return array.astype(np.float32, copy=False)


def _bilinear(values: FloatArray, shape: tuple[int, int]) -> FloatArray:
    batch = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    out = torch.nn.functional.interpolate(batch, size=shape, mode="bilinear", align_corners=False)
    return out[0, 0].numpy()


def _nearest(mask: BoolArray, shape: tuple[int, int]) -> BoolArray:
    """As torchvision's `InterpolationMode.NEAREST`, which anomalib uses for masks."""
    batch = torch.from_numpy(np.ascontiguousarray(mask).view(np.uint8))[None, None]
    return torch.nn.functional.interpolate(batch, size=shape, mode="nearest")[0, 0].numpy().astype(bool)

"""The geometry between the upright photo and the model's input rectangle.

The photo, w0 x h0 pixels, is scaled to w1 x h1; the input rectangle, w x h, is then laid with
its corner at (left, top) of the scaled photo. A crop has left, top >= 0; padding has them
negative. Positions are continuous, with (0, 0) the outer corner of the first pixel, so for both
axes alike

    input = fraction * w1 - left        fraction = (input + left) / w1

and no rounding enters but that of w1, h1, left and top themselves, which are the integers that
the preprocessing really used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..checks import check_count, expect
from ..contract.spec import SAME_SHAPE, InputSpec
from ..errors import ArrayError
from ..shown import shown_value

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """Where the model's input lies on the photo. All sizes are (width, height) in pixels.

    Attributes:
        photo: Size of the upright photo.
        resized: Size that it is scaled to.
        offset: (left, top) of the input rectangle on the scaled photo; negative where there is padding.
        input: Size of the input rectangle.

    >>> frame = Frame(photo=(512, 430), resized=(304, 256), offset=(40, 16), input=(224, 224))
    >>> frame.to_photo(112, 112)
    (0.5, 0.5)
    """

    photo: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    input: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("photo", "resized", "offset", "input"):
            pair = getattr(self, name)
            good = isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(n, int | np.integer) for n in pair)
            if not good or (name != "offset" and min(pair) < 1):
                raise ArrayError(f"Frame: {name}: expected two whole numbers (width, height), got {shown_value(pair)}")

    @classmethod
    def fit(cls, photo: tuple[int, int], spec: InputSpec) -> Frame:
        """The frame that an input's description gives a photo.

        Sizes are rounded as torchvision's ``Resize`` rounds them, offsets as its ``CenterCrop``
        does or, with corner ``down``, as transformers' image processors do.

        Args:
            photo: Size (width, height) of the upright photo in pixels.
            spec: The model's input.

        Returns:
            Where the input lies on the photo.

        Raises:
            ArrayError: The size is not that of a photo.
        """
        expect("Frame.fit", "spec", spec, InputSpec)
        if not isinstance(photo, tuple) or len(photo) != 2:
            raise ArrayError(f"Frame.fit: photo: expected (width, height), got {shown_value(photo)}")
        for side in photo:
            check_count("Frame.fit: photo", side)
        (w0, h0), (w, h) = photo, (spec.width, spec.height)
        rule = spec.resize
        mode = rule.mode
        if mode == "fit":
            mode = "stretch" if max(w0 * h, w * h0) <= SAME_SHAPE * min(w0 * h, w * h0) else "pad"
        if mode == "shorter":
            short, long = min(photo), max(photo)
            size = rule.size or max(w, h)
            longer = int(size * long / short)
            w1, h1 = (size, longer) if w0 <= h0 else (longer, size)
        elif mode == "stretch":
            w1, h1 = (rule.size, rule.size) if rule.size is not None else (w, h)
        else:
            scale = min(w / w0, h / h0)
            w1, h1 = max(1, min(w, round(w0 * scale))), max(1, min(h, round(h0 * scale)))
        rounded = round if rule.corner == "nearest" else math.floor
        return cls(photo, (w1, h1), (rounded((w1 - w) / 2.0), rounded((h1 - h) / 2.0)), (w, h))

    @classmethod
    def whole(cls, width: int, height: int) -> Frame:
        """The frame of a tensor that came without a photo: the input is the photo.

        Args:
            width: Of the input in pixels.
            height: Of the input in pixels.

        Returns:
            A frame without scaling and offset.
        """
        return cls((width, height), (width, height), (0, 0), (width, height))

    def to_photo(self, x: float, y: float) -> tuple[float, float]:
        """From the input to the photo.

        Args:
            x: Column on the input, in pixels; continuous, 0 at the left edge.
            y: Row on the input, in pixels; continuous, 0 at the top edge.

        Returns:
            (x, y) as fractions of the photo; outside 0 to 1 in the padding.
        """
        return (x + self.offset[0]) / self.resized[0], (y + self.offset[1]) / self.resized[1]

    def to_input(self, x: float, y: float) -> tuple[float, float]:
        """From the photo to the input.

        Args:
            x: Fraction of the photo's width, from its left edge.
            y: Fraction of the photo's height, from its top edge.

        Returns:
            (x, y) on the input in pixels, continuous; outside the input where the photo was cropped.
        """
        return x * self.resized[0] - self.offset[0], y * self.resized[1] - self.offset[1]

    @property
    def seen(self) -> tuple[float, float, float, float]:
        """The part of the photo that the model saw: x0, y0, x1, y1 as fractions of the photo."""
        x0, y0 = self.to_photo(0, 0)
        x1, y1 = self.to_photo(*self.input)
        return max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)

    @property
    def left_out(self) -> float:
        """Share of the photo's area that the model did not see, 0 to 1."""
        x0, y0, x1, y1 = self.seen
        return 1 - max(x1 - x0, 0.0) * max(y1 - y0, 0.0)

    def on_photo(self) -> NDArray[np.bool_]:
        """Which input pixels lie on the photo, not in the padding.

        Returns:
            Bool (H, W): True where a pixel's centre does.
        """
        columns, rows = (
            (np.arange(size) + 0.5 + offset > 0) & (np.arange(size) + 0.5 + offset < resized)
            for size, offset, resized in zip(self.input, self.offset, self.resized, strict=True)
        )
        return rows[:, None] & columns[None, :]

    def view_size(self, max_side: int | None = None) -> tuple[int, int]:
        """Size of the photo when it is shown.

        Args:
            max_side: The longest side in pixels that is allowed; None for any.

        Returns:
            (width, height), scaled down where it has to be.

        Raises:
            ArrayError: `max_side` is no whole number above 0.
        """
        if max_side is not None:
            check_count("max_side", max_side)
        w0, h0 = self.photo
        if max_side is None or max(w0, h0) <= max_side:
            return w0, h0
        scale = max_side / max(w0, h0)
        return max(1, round(w0 * scale)), max(1, round(h0 * scale))

    def place(
        self, map: NDArray[np.floating[Any]], max_side: int | None = None, *, size: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Lay a map on the photo.

        Every photo pixel takes the bilinear value of the map at the exact position of its centre
        (double precision positions; beyond the centres of the map's border pixels the border
        value holds).

        Args:
            map: Float (H, W) in the frame of the input.
            max_side: Scale the result down so that its longer side has at most that many pixels; None for no limit.
            size: Its (width, height) in pixels outright.

        Returns:
            Float32 of the photo's height and width, scaled; NaN for pixels whose centre the model did not see.

        Raises:
            ArrayError: The map does not have the input's size.
        """
        expect("place", "map", map, np.ndarray)
        w, h = self.input
        if map.shape != (h, w):
            raise ArrayError(f"map: expected shape {(h, w)}, the model's input, got {map.shape}")
        columns, rows = size or self.view_size(max_side)
        x = (np.arange(columns) + 0.5) / columns * self.resized[0] - self.offset[0]
        y = (np.arange(rows) + 0.5) / rows * self.resized[1] - self.offset[1]
        values = map.astype(np.float32, copy=False)
        placed = _sample(_sample(values, y, axis=0), x, axis=1)
        placed[(y < 0) | (y > h), :] = np.nan
        placed[:, (x < 0) | (x > w)] = np.nan
        return placed

    def place_levels(
        self, map: NDArray[np.floating[Any]], size: tuple[int, int]
    ) -> tuple[Image.Image | None, tuple[int, int, int, int]]:
        """Lay a map on the photo in bytes, for pictures: within two levels of `place`, several times as fast.

        Args:
            map: Float (H, W) in the frame of the input.
            size: (width, height) of the shown photo in pixels.

        Returns:
            A picture of mode L, 255 for 1, and the box (left, top, right, bottom) that it fills on the shown photo;
            None and an empty box where the model saw no pixel's centre.

        Raises:
            ArrayError: The map does not have the input's size.
        """
        from PIL import Image

        from .drawing import to_levels

        w, h = self.input
        scales = (self.resized[0] / size[0], self.resized[1] / size[1])
        ranges = []
        for count, offset, scale, side in zip(size, self.offset, scales, self.input, strict=True):
            centres = (np.arange(count) + 0.5) * scale - offset
            inside = np.flatnonzero((centres >= 0) & (centres <= side))
            if not len(inside):
                return None, (0, 0, 0, 0)
            # Pillow wants edges; one pixel of padding makes room for those that stick out, and holds the border value.
            ends = centres[inside[0]] - scale / 2 + 1, centres[inside[-1]] + scale / 2 + 1
            ranges.append((int(inside[0]), int(inside[-1]) + 1, *ends))
        (left, right, x0, x1), (top, bottom, y0, y1) = ranges
        box = (left, top, right, bottom)
        if max(scales) > 1:  # Pillow would average, where `place` samples
            return Image.fromarray(to_levels(self.place(map, size=size)[top:bottom, left:right])), box
        if map.shape != (h, w):
            raise ArrayError(f"map: expected shape {(h, w)}, the model's input, got {map.shape}")
        padded = Image.fromarray(np.pad(to_levels(map), 1, mode="edge"))
        shape = (right - left, bottom - top)
        return padded.resize(shape, Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)), box


def _sample(values: NDArray[np.float32], positions: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Linear interpolation along `axis` at continuous positions (pixel i has its centre at i + 0.5)."""
    last = values.shape[axis] - 1
    index = np.clip(positions - 0.5, 0, last)
    low = np.floor(index).astype(np.intp)
    shape = (-1, 1) if axis == 0 else (1, -1)
    weight: NDArray[np.float32] = (index - low).reshape(shape).astype(np.float32)
    first = values.take(low, axis=axis)
    second = values.take(np.minimum(low + 1, last), axis=axis)
    return np.asarray(first + (second - first) * weight, np.float32)

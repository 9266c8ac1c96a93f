"""`InputSpec`: what a `CamSpec` says of the image input, and how a photo becomes one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from ..errors import SpecError

__all__ = ["SAME_SHAPE", "FoldedSpec", "InputSpec", "ResizeSpec"]

#: Pixels along one side of an input, and of the photo that is scaled for it: more is a number that went wrong, and
#: would take all memory.
_LARGEST_SIDE = 32_768
_MOST_PIXELS = 2**26

#: By how much the aspect ratios of photo and input may differ before resize mode ``fit`` pads.
SAME_SHAPE = 1.25


@dataclass(frozen=True, kw_only=True)
class ResizeSpec:
    """How a photo becomes the model's input rectangle.

    mode: ``shorter`` scales the photo so that its shorter side is `size` and keeps the
    aspect ratio; ``stretch`` scales straight to the input's height and width, or to a
    square of `size` from which the input is cropped; ``pad`` scales so that the whole photo
    fits and fills the rest with the mean colour; ``fit`` decides for each photo: it stretches one
    whose aspect ratio is at most `SAME_SHAPE` times the input's, or the other way round, and pads
    any other (schema 1.3).
    size: the shorter side in pixels before cropping (``shorter``, and ``stretch`` with a crop).
    interpolation: filter of the resize, always with antialiasing when it shrinks.
    crop: ``center`` cuts the input rectangle out of the middle; ``none`` needs a mode
    that gives the input's size by itself. corner: where the rectangle starts when what is cut
    off is odd: ``nearest`` rounds half to even as torchvision does, ``down`` as transformers does.
    """

    mode: Literal["shorter", "stretch", "pad", "fit"] = "shorter"
    size: int | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    crop: Literal["center", "none"] = "center"
    corner: Literal["nearest", "down"] = "nearest"

    def validate(self, height: int, width: int) -> None:
        if self.size is not None and self.size > _LARGEST_SIDE:
            raise SpecError(f"CamSpec input.resize.size: expected at most {_LARGEST_SIDE} pixels, got {self.size}")
        if self.mode == "shorter":
            if self.size is None or self.size < 1:
                raise SpecError("CamSpec input.resize.size: mode 'shorter' needs a shorter side of at least 1 pixel")
            if self.crop != "center":
                raise SpecError("CamSpec input.resize.crop: mode 'shorter' keeps the aspect ratio and needs 'center'")
            if self.size < max(height, width):
                raise SpecError(
                    f"CamSpec input.resize.size: the shorter side is {self.size}, smaller than the "
                    f"{height}x{width} (height x width) that is cropped from it"
                )
        elif self.mode == "stretch" and self.size is not None and self.size < max(height, width):
            raise SpecError(
                f"CamSpec input.resize.size: the photo is stretched to {self.size}x{self.size}, smaller than the "
                f"{height}x{width} (height x width) that is cropped from it"
            )
        elif self.mode == "fit" and self.size is not None:
            raise SpecError("CamSpec input.resize.size: mode 'fit' goes straight to the input's size")
        if self.size is not None and self.crop != "center":
            raise SpecError(f"CamSpec input.resize.size: needs crop 'center', got '{self.crop}'")


@dataclass(frozen=True, kw_only=True)
class FoldedSpec:
    """What the graph itself does with the pixels p that it takes: (p * scale - mean) / std, per channel.

    In the order of the input's channels, mean and std in the units of p * scale, as in `InputSpec`.
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The image input: x = (p * scale - mean) / std, p in 0..255, per channel of `color`.

    color: ``rgb``, ``bgr``; ``gray``, Pillow's luma; or ``channels``, the photo's own in their order, as many as there
    are means (schema 1.3). mean and std have one number per channel, in that order, in the units of ``p * scale``.
    dtype: for integers x is rounded, and cut where the type ends (schema 1.3).
    photo_range: the values (low, high) that p = 0 and p = 255 stand for in photos of more than 8 bits and of
    floating-point numbers; None is 0 to 65535, or 0 to 1 (schema 1.3).
    folded: what the graph does with the pixels, where preprocessing was folded into it; scale is then 1, mean 0 and
    std 1, so that x = p (schema 1.4).
    """

    name: str
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    height: int
    width: int
    dtype: Literal["float32", "float16", "uint8", "int8"] = "float32"
    color: Literal["rgb", "bgr", "gray", "channels"] = "rgb"
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: ResizeSpec = field(default_factory=lambda: ResizeSpec(mode="stretch", crop="none"))
    photo_range: tuple[float, float] | None = None
    folded: FoldedSpec | None = None

    @property
    def blank(self) -> tuple[float, ...]:
        """For each channel the x of the mean colour, which stands where there is no photo: 0 unless that is folded."""
        if self.folded is None:
            return (0.0,) * self.channels
        return tuple(mean / self.folded.scale for mean in self.folded.mean)

    @property
    def centred(self) -> InputSpec:
        """The same for images less `blank`, in which 0 is the mean colour whether that is folded or not."""
        return self if self.folded is None else replace(self, mean=self.blank, folded=None)

    @property
    def channels(self) -> int:
        return {"rgb": 3, "bgr": 3, "gray": 1, "channels": len(self.mean)}[self.color]

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """Shape of the input tensor for `batch` images, in the model's own layout."""
        if self.layout == "NCHW":
            return (batch, self.channels, self.height, self.width)
        return (batch, self.height, self.width, self.channels)

    def validate(self) -> None:
        if min(self.height, self.width) < 1:
            raise SpecError(f"CamSpec input: height and width must be positive, got {self.height}x{self.width}")
        if max(self.height, self.width) > _LARGEST_SIDE or self.height * self.width > _MOST_PIXELS:
            raise SpecError(
                f"CamSpec input: expected at most {_LARGEST_SIDE} pixels along a side and {_MOST_PIXELS} in all, got "
                f"{self.height}x{self.width}"
            )
        self._check_numbers("input", self)
        if self.folded is not None:
            self._check_numbers("input.folded", self.folded)
            if self.scale != 1 or any(self.mean) or any(v != 1 for v in self.std):
                raise SpecError(
                    "CamSpec input.folded: the graph takes pixels as they are, and scale, mean and std of the input "
                    "say something else than 1, 0 and 1"
                )
        low, high = self.photo_range or (0.0, 1.0)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SpecError(f"CamSpec input.photo_range: expected two finite numbers LOW < HIGH, got {low:g}, {high:g}")
        self.resize.validate(self.height, self.width)

    def _check_numbers(self, where: str, formula: InputSpec | FoldedSpec) -> None:
        for name in ("mean", "std"):
            values = getattr(formula, name)
            if len(values) != self.channels or not values:
                raise SpecError(
                    f"CamSpec {where}.{name}: expected {self.channels} numbers for color "
                    f"'{self.color}', got {len(values)}"
                )
        if any(v == 0 for v in formula.std) or formula.scale == 0:
            raise SpecError(f"CamSpec {where}: scale and std must not be zero")
        if not all(math.isfinite(v) for v in (formula.scale, *formula.mean, *formula.std)):
            raise SpecError(f"CamSpec {where}: scale, mean and std must be finite")

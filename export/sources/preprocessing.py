"""How a photo becomes the model's input: presets, and what the user changes about them.

The exporter turns a `Preprocessing` and the input size into the `InputSpec` that goes into the
file. Nothing here needs PyTorch.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from ...runtime.checks import expect
from ...runtime.contract.spec import InputSpec, ResizeSpec
from ...runtime.shown import shown_value
from ..errors import ExportError

__all__ = ["PRESETS", "Preprocessing", "parse_input_size", "parse_numbers", "parse_resize", "preset"]

Color = Literal["rgb", "bgr"]
Mode = Literal["shorter", "stretch", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Crop = Literal["center", "none"]
Corner = Literal["nearest", "down"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """x = (p * scale - mean) / std with p in 0..255, after resizing and cropping.

    Attributes:
        scale: Factor of the 8-bit values.
        mean: Three numbers in the order R, G, B **whatever** `color` is, in the units of p * scale; `input_spec` puts
            them into the model's order.
        std: Three numbers, likewise.
        color: The order in which the model takes its channels.
        mode: As in `ResizeSpec`.
        shorter: The shorter side in pixels before the crop; None derives it from the input size L (its longer
            side): round(L / ratio).
        ratio: Share of the shorter side that the crop leaves.
        interpolation: As in `ResizeSpec`.
        crop: As in `ResizeSpec`.
        corner: As in `ResizeSpec`.

    >>> preset("torchvision").input_spec("image", 224, 224).resize.size
    256
    >>> preset("lite").input_spec("image", 224, 224).mean
    (127.0, 127.0, 127.0)
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: Color = "rgb"
    mode: Mode = "shorter"
    shorter: int | None = None
    ratio: float = 1.0
    interpolation: Interpolation = "bilinear"
    crop: Crop = "center"
    corner: Corner = "nearest"

    def __post_init__(self) -> None:
        choices = {"color": Color, "mode": Mode, "interpolation": Interpolation, "crop": Crop, "corner": Corner}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in get_args(allowed):
                raise ExportError(f"{name}: expected one of {', '.join(get_args(allowed))}, got {shown_value(value)}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            expect("preprocessing", name, values, Sequence, error=ExportError)
            if len(values) != 3:
                raise ExportError(f"{name}: expected three numbers R,G,B, got {len(values)}")
        expect("preprocessing", "shorter", self.shorter, int, None, error=ExportError)
        numbers = (self.scale, self.ratio, *self.mean, *self.std)
        for value in numbers:
            expect("preprocessing", "scale, ratio, mean or std", value, int, float, error=ExportError)
        if not all(abs(value) <= sys.float_info.max for value in numbers) or self.ratio <= 0:
            raise ExportError("scale, mean and std must be finite numbers, ratio one above 0")
        if self.scale == 0:
            raise ExportError("scale: must not be zero, the image would vanish")
        if 0 in self.std:
            raise ExportError("std: must not be zero, it divides the image")
        if self.mode == "shorter" and self.crop == "none":
            raise ExportError(
                "crop: 'none' needs resize 'stretch' or 'pad'; scaling by the shorter side leaves a rest to cut off"
            )

    def override(self, **changes: Any) -> Preprocessing:
        """A copy with the fields that are not None replaced.

        A mode that fills the input by itself (``stretch``, ``pad``) turns the crop off, unless `crop` is given too.

        Args:
            **changes: New values by the name of the field; None leaves it as it is.

        Returns:
            The copy.

        Raises:
            ExportError: A value is out of range, or the values do not fit together.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if given.get("mode") in ("stretch", "pad"):
            given.setdefault("crop", "none")
        elif given.get("mode") == "shorter" and self.crop == "none":
            given.setdefault("crop", "center")
        return replace(self, **given)

    def input_spec(
        self,
        name: str,
        height: int,
        width: int,
        *,
        layout: Literal["NCHW", "NHWC"] = "NCHW",
        dtype: Literal["float32", "float16"] = "float32",
    ) -> InputSpec:
        """What is written into a file about its image input.

        Args:
            name: Of the model's input.
            height: Of the input in pixels.
            width: Of the input in pixels.
            layout: Order of the input's axes.
            dtype: Type of the input's values.

        Returns:
            The description, with the model's own order of channels.

        Raises:
            ExportError: The photo is scaled to less than what is cropped from it.
        """
        size: int | None = None
        if self.mode == "shorter" or (self.mode == "stretch" and self.crop == "center"):
            size = self.shorter or round(max(height, width) / self.ratio)
            if size < max(height, width):
                side = "shorter side" if self.mode == "shorter" else "square"
                raise ExportError(
                    f"resize: a {side} of {size} pixels is too small to cut {height}x{width} (height x width) "
                    f"out of it: give at least {max(height, width)}, or 'stretch' or 'pad'"
                )
        ordered = slice(None, None, -1) if self.color == "bgr" else slice(None)
        return InputSpec(
            name=name,
            layout=layout,
            height=height,
            width=width,
            dtype=dtype,
            color=self.color,
            scale=self.scale,
            mean=self.mean[ordered],
            std=self.std[ordered],
            resize=ResizeSpec(
                mode=self.mode, size=size, interpolation=self.interpolation, crop=self.crop, corner=self.corner
            ),
        )

    def doubts(self) -> list[str]:
        """Sentences about numbers that are possible but look like a mix-up of units.

        mean and std are in the units of p * scale, which is where most wrong exports come from.

        Returns:
            Warnings for the user; mostly none.
        """
        top = 255 * abs(self.scale)
        if max(abs(v) for v in self.mean) > top * 1.05:
            return [
                f"mean {_listed(self.mean)} lies outside 0..{top:g}, the range of p * scale with scale {self.scale:g}: "
                "mean and std are in the units of p * scale"
            ]
        if top > 100 and 0 < max(self.mean) <= 1 and max(self.std) <= 1:
            return [
                f"mean {_listed(self.mean)} and std {_listed(self.std)} look like fractions, but p * scale reaches "
                f"{top:g}: did you mean scale 1/255?"
            ]
        return []


_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

#: What `preset` knows.
PRESETS: dict[str, Preprocessing] = {
    # torchvision and most PyTorch models
    "torchvision": Preprocessing(scale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, ratio=0.875),
    # TensorFlow's and Keras' "tf" mode: -1 to 1
    "tf": Preprocessing(scale=1 / 127.5, mean=(1.0,) * 3, std=(1.0,) * 3, ratio=0.875),
    # EfficientNet-Lite: quantisation-friendly whole numbers. The whole photo is squeezed into the
    # square, because an explanation should not be blind to what a crop cuts off.
    "lite": Preprocessing(
        scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3, mode="stretch", interpolation="bicubic", crop="none"
    ),
}


def preset(name: str) -> Preprocessing:
    """A usual preprocessing.

    Args:
        name: ``torchvision``, ``tf`` or ``lite``.

    Returns:
        The preprocessing, to which `Preprocessing.override` makes changes.

    Raises:
        ExportError: There is no such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ExportError(f"preset: expected one of {', '.join(PRESETS)}, got {shown_value(name)}")
    return PRESETS[name]


def parse_numbers(text: str, what: str, count: int = 3) -> tuple[float, ...]:
    """`count` numbers from ``"0.485,0.456,0.406"``; one number stands for all; ``1/255`` is a number.

    what: how the error calls it. Raises `ExportError`.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        values = [_number(part) for part in parts]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ExportError(f"{what}: expected {_example(count)}, got '{text}'") from None
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise ExportError(f"{what}: expected {_example(count)}, got {len(values)} numbers: '{text}'")
    return tuple(values)


def parse_resize(text: str) -> dict[str, Any]:
    """Fields for `Preprocessing.override` from ``shorter:256``, ``256``, ``stretch`` or ``pad``.

    Raises `ExportError`.
    """
    text = text.strip().lower()
    if text in ("stretch", "pad"):
        return {"mode": text}
    match = re.fullmatch(r"(?:shorter:)?(\d+)", text)
    if match is None or int(match[1]) < 1:
        raise ExportError(f"resize: expected shorter:PIXELS (or PIXELS), stretch or pad, got '{text}'")
    return {"mode": "shorter", "shorter": int(match[1])}


def parse_input_size(text: str | int | Sequence[int], what: str = "input size") -> tuple[int, int]:
    """(height, width) from ``224``, ``"224"``, ``"224x320"`` or a pair; what: how the error calls it.

    Raises `ExportError`.
    """
    if isinstance(text, int):
        sizes = (text, text)
    elif isinstance(text, str):
        match = re.fullmatch(r"(\d+)(?:\s*[xX,]\s*(\d+))?", text.strip())
        if match is None:
            raise ExportError(f"{what}: expected PIXELS or HEIGHTxWIDTH, got '{text}'")
        sizes = (int(match[1]), int(match[2] or match[1]))
    else:
        sizes = (int(text[0]), int(text[1])) if len(text) == 2 else (0, 0)
    if not all(1 <= size <= 16384 for size in sizes):
        raise ExportError(f"{what}: expected 1 to 16384 pixels, got '{text}'")
    return sizes


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    value = float(Fraction(above) / Fraction(below)) if slash else float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _example(count: int) -> str:
    return "a number such as 1/255" if count == 1 else "three numbers R,G,B such as 0.485,0.456,0.406"


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{v:g}" for v in values)

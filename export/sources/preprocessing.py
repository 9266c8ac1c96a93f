"""How a photo becomes the model's input: presets, and what the user changes about them.

The exporter turns a `Preprocessing` and the input size into the `InputSpec` that goes into the
file. Nothing here needs PyTorch.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from ...runtime.checks import expect
from ...runtime.contract.spec import InputSpec, ResizeSpec
from ...runtime.shown import shown_value
from ..errors import ExportError

__all__ = ["PRESETS", "Preprocessing", "parse_input_size", "parse_numbers", "parse_resize", "preset"]

Color = Literal["rgb", "bgr", "gray", "channels"]
Mode = Literal["auto", "shorter", "stretch", "pad", "fit"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Crop = Literal["center", "none"]
Corner = Literal["nearest", "down"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """x = (p * scale - mean) / std with p in 0..255, after resizing and cropping.

    Attributes:
        scale: Factor of the 8-bit values.
        mean: One number for all channels, or one for each, in the units of p * scale. Of three colours the order is
            R, G, B **whatever** `color` is; `input_spec` puts them into the model's order.
        std: One number or several, likewise.
        color: The order in which the model takes its channels: ``rgb`` or ``bgr``; ``gray``, Pillow's luma; or
            ``channels``, the photo's own. ``rgb`` of a model with one channel is ``gray``, with another number than
            three ``channels``.
        mode: As in `ResizeSpec`; ``auto`` is ``shorter`` for a square input, and ``fit``, which crops nothing, for any
            other.
        shorter: The shorter side in pixels before the crop; None derives it from the input size L (its longer
            side): round(L / ratio).
        ratio: Share of the shorter side that the crop leaves.
        interpolation: As in `ResizeSpec`.
        crop: As in `ResizeSpec`.
        corner: As in `ResizeSpec`.
        photo_range: As in `InputSpec`.
        stated: Names of the fields that somebody has chosen, over which nothing that a model says about itself wins;
            None for all of them.

    >>> preset("torchvision").input_spec("image", 224, 224).resize.size
    256
    >>> preset("lite").input_spec("image", 224, 224).mean
    (127.0, 127.0, 127.0)
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: Color = "rgb"
    mode: Mode = "auto"
    shorter: int | None = None
    ratio: float = 1.0
    interpolation: Interpolation = "bilinear"
    crop: Crop = "center"
    corner: Corner = "nearest"
    photo_range: tuple[float, float] | None = None
    stated: frozenset[str] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        choices = {"color": Color, "mode": Mode, "interpolation": Interpolation, "crop": Crop, "corner": Corner}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in get_args(allowed):
                raise ExportError(f"{name}: expected one of {', '.join(get_args(allowed))}, got {shown_value(value)}")
        for name in ("mean", "std"):
            expect("preprocessing", name, getattr(self, name), Sequence, error=ExportError)
        count = max(len(self.mean), len(self.std))
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, count):
                raise ExportError(
                    f"mean has {len(self.mean)} numbers and std {len(self.std)}: give both for each channel, or one "
                    "number for all"
                )
            object.__setattr__(self, name, tuple(values) * (count if len(values) == 1 else 1))
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
        if self.mode in ("auto", "shorter") and self.crop == "none":
            raise ExportError(
                "crop: 'none' needs resize 'stretch' or 'pad'; scaling by the shorter side leaves a rest to cut off"
            )
        if self.photo_range is not None and not -math.inf < self.photo_range[0] < self.photo_range[1] < math.inf:
            raise ExportError(f"photo_range: expected two numbers (low, high), got {self.photo_range}")

    def states(self, *names: str) -> bool:
        """Whether somebody has chosen one of some fields.

        Args:
            *names: Of the fields.

        Returns:
            Where `stated` is None, always True.
        """
        return self.stated is None or not self.stated.isdisjoint(names)

    def override(self, **changes: Any) -> Preprocessing:
        """A copy with the fields that are not None replaced.

        A mode that fills the input by itself (``stretch``, ``pad``, ``fit``) turns the crop off, unless `crop` is given
        too. A crop that is given makes ``auto`` ``shorter``.

        Args:
            **changes: New values by the name of the field; None leaves it as it is.

        Returns:
            The copy.

        Raises:
            ExportError: A value is out of range, or the values do not fit together.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if given.get("mode") in ("stretch", "pad", "fit"):
            given.setdefault("crop", "none")
        elif "mode" not in given and self.mode == "auto" and given.get("crop") == "center":
            given["mode"] = "shorter"
        elif given.get("mode") == "shorter" and self.crop == "none":
            given.setdefault("crop", "center")
        known = frozenset(one.name for one in fields(self)) if self.stated is None else self.stated
        return replace(self, **{"stated": known | set(given), **given})

    def input_spec(
        self,
        name: str,
        height: int,
        width: int,
        *,
        layout: Literal["NCHW", "NHWC"] = "NCHW",
        dtype: Literal["float32", "float16", "uint8", "int8"] = "float32",
        channels: int | None = None,
    ) -> InputSpec:
        """What is written into a file about its image input.

        Args:
            name: Of the model's input.
            height: Of the input in pixels.
            width: Of the input in pixels.
            layout: Order of the input's axes.
            dtype: Type of the input's values.
            channels: How many the input has; None for as many as there are means, or three.

        Returns:
            The description, with the model's own order of channels.

        Raises:
            ExportError: The photo is scaled to less than what is cropped from it, or colours, means or values do not
                fit the input's channels or type.
        """
        color, mean, std = self._of_channels(channels or (3 if len(self.mean) == 1 else len(self.mean)))
        _check_type(dtype, self.scale, mean, std)
        mode, crop = self.mode, self.crop
        if mode == "auto":
            mode = "shorter" if height == width or self.shorter is not None else "fit"
            crop = "center" if mode == "shorter" else "none"
        size: int | None = None
        if mode == "shorter" or (mode == "stretch" and crop == "center"):
            size = self.shorter or round(max(height, width) / self.ratio)
            if size < max(height, width):
                side = "shorter side" if mode == "shorter" else "square"
                raise ExportError(
                    f"resize: a {side} of {size} pixels is too small to cut {height}x{width} (height x width) "
                    f"out of it: give at least {max(height, width)}, or 'stretch' or 'pad'"
                )
        return InputSpec(
            name=name,
            layout=layout,
            height=height,
            width=width,
            dtype=dtype,
            color=color,
            scale=self.scale,
            mean=mean,
            std=std,
            resize=ResizeSpec(mode=mode, size=size, interpolation=self.interpolation, crop=crop, corner=self.corner),
            photo_range=self.photo_range,
        )

    def _of_channels(self, count: int) -> tuple[Color, tuple[float, ...], tuple[float, ...]]:
        """color, mean and std of an input of so many channels, in its own order. Raises `ExportError`."""
        color: Color = self.color
        if color == "rgb" and count != 3:
            color = "gray" if count == 1 else "channels"
        needed = {"rgb": 3, "bgr": 3, "gray": 1}.get(color, count)
        if needed != count:
            raise ExportError(f"color: '{color}' is for {needed} channel{'s' * (needed > 1)}, the model takes {count}")
        mean, std = self.mean, self.std
        if len(mean) != count and len({*mean}) == len({*std}) == 1:  # one number for all
            mean, std = mean[:1] * count, std[:1] * count
        if len(mean) != count:
            raise ExportError(
                f"the model takes {count} channel{'s' * (count > 1)}, but mean and std have {len(mean)} numbers each: "
                f"give {'one number' if count == 1 else f'{count} numbers, or one for all,'} for mean and for std "
                "(--mean, --std)"
            )
        return (color, mean[::-1], std[::-1]) if color == "bgr" else (color, mean, std)

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
_NOTHING: frozenset[str] = frozenset()
#: What an integer input must at least tell apart: a photo of fewer levels is a mix-up of units.
_FEWEST_LEVELS = 64

#: What `preset` knows.
PRESETS: dict[str, Preprocessing] = {
    # torchvision and most PyTorch models
    "torchvision": Preprocessing(scale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, ratio=0.875, stated=_NOTHING),
    # TensorFlow's and Keras' "tf" mode: -1 to 1
    "tf": Preprocessing(scale=1 / 127.5, mean=(1.0,) * 3, std=(1.0,) * 3, ratio=0.875, stated=_NOTHING),
    # EfficientNet-Lite: quantisation-friendly whole numbers. The whole photo is squeezed into the
    # square, because an explanation should not be blind to what a crop cuts off.
    "lite": Preprocessing(
        scale=1.0,
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        mode="stretch",
        interpolation="bicubic",
        crop="none",
        stated=_NOTHING,
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


def parse_numbers(text: str, what: str, count: int | None = None) -> tuple[float, ...]:
    """Numbers from ``"0.485,0.456,0.406"``; ``1/255`` is a number.

    what: how the error calls it. count: how many are expected; None for any number. Raises `ExportError`.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        values = [_number(part) for part in parts]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ExportError(f"{what}: expected {_example(count)}, got '{text}'") from None
    if count is not None and len(values) != count:
        raise ExportError(f"{what}: expected {_example(count)}, got {len(values)} numbers: '{text}'")
    return tuple(values)


def parse_resize(text: str) -> dict[str, Any]:
    """Fields for `Preprocessing.override` from ``shorter:256``, ``256``, ``stretch``, ``pad`` or ``fit``.

    Raises `ExportError`.
    """
    text = text.strip().lower()
    if text in ("stretch", "pad", "fit"):
        return {"mode": text}
    match = re.fullmatch(r"(?:shorter:)?(\d+)", text)
    if match is None or int(match[1]) < 1:
        raise ExportError(f"resize: expected shorter:PIXELS (or PIXELS), stretch, pad or fit, got '{text}'")
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


def _example(count: int | None) -> str:
    return "a number such as 1/255" if count == 1 else "numbers such as 0.485,0.456,0.406"


def _check_type(dtype: str, scale: float, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise `ExportError` where x, rounded, would not fit an integer input."""
    if dtype not in ("uint8", "int8"):
        return
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    ends = [(p * scale - m) / s for p in (0, 255) for m, s in zip(mean, std, strict=True)]
    if min(ends) < low - 0.5 or max(ends) > high + 0.5 or max(ends) - min(ends) < _FEWEST_LEVELS:
        raise ExportError(
            f"the input is {dtype}, but (p * scale - mean) / std runs from {min(ends):g} to {max(ends):g}: leave "
            "scale, mean and std out where the model normalises the image itself"
        )


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{v:g}" for v in values)

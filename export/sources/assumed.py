"""What a model says about its own input, and what is assumed where nobody says anything."""

from __future__ import annotations

from typing import Any

from ..errors import ExportError
from .onnx_input import ImageInput
from .preprocessing import Preprocessing

__all__ = ["PIXEL_RANGE", "says_pixels", "settle"]

#: What ONNX files say of the units of their image.
PIXEL_RANGE = "Image.NominalPixelRange"
_FORMAT, _GAMMA = "Image.BitmapPixelFormat", "Image.ColorSpaceGamma"

#: What the ranges of ONNX's image metadata mean, as fields of `Preprocessing`.
_RANGES: dict[str, dict[str, Any]] = {
    "NominalRange_0_255": {"scale": 1.0, "mean": (0.0,), "std": (1.0,)},
    "Normalized_0_1": {"scale": 1 / 255, "mean": (0.0,), "std": (1.0,)},
    "Normalized_1_1": {"scale": 1 / 127.5, "mean": (1.0,), "std": (1.0,)},
    "NominalRange_16_235": {"scale": 219 / 255, "mean": (-16.0,), "std": (1.0,)},
}
#: The order of channels, and how many there are; None for formats that photos are not prepared for.
_FORMATS: dict[str, tuple[str, int] | None] = {
    "Gray8": ("gray", 1),
    "Rgb8": ("rgb", 3),
    "Bgr8": ("bgr", 3),
    "Rgba8": ("channels", 4),
    "Bgra8": None,
}
_PIXELS = ("scale", "mean", "std")


def says_pixels(image: ImageInput) -> bool:
    """Whether the file itself says what its input is in units of pixels."""
    return image.metadata.get(PIXEL_RANGE) in _RANGES


def settle(preprocessing: Preprocessing, image: ImageInput) -> tuple[Preprocessing, list[str]]:
    """The preprocessing for `image`: what the file's metadata say wins over a preset, what somebody stated over both.

    Returns it, and notes on what was taken from where. Raises `ExportError` for metadata that ask for what the runtime
    does not do.
    """
    notes: list[str] = []
    changes: dict[str, Any] = {}
    stated, said = preprocessing.states(*_PIXELS), image.metadata
    if said.get(_GAMMA, "").lower() == "linear":
        if not stated:
            raise ExportError(
                f"input '{image.name}': the file's metadata ask for linear light ({_GAMMA} = Linear), but photos are "
                "prepared as they are stored (sRGB): if the model was trained on those, say so by giving --scale, "
                "--mean and --std"
            )
        notes.append(f"the file's metadata ask for linear light ({_GAMMA} = Linear): photos are given as stored, sRGB")
    range_ = said.get(PIXEL_RANGE)
    if range_ is not None and stated:
        notes.append(
            f"the file's metadata say {PIXEL_RANGE} = {range_}; scale, mean and std that were stated win over it"
        )
    elif range_ in _RANGES:
        changes |= _RANGES[range_]
        notes.append(f"the file's metadata say {PIXEL_RANGE} = {range_}: {_formula(changes)} (it wins over presets)")
    elif range_ is not None:
        notes.append(f"the file's metadata say {PIXEL_RANGE} = {range_}, which is not known and was not followed")
    if not stated and not changes:
        changes |= _assumed(image, notes)
    changes |= _order(preprocessing, image, notes)
    if not changes:
        return preprocessing, notes
    return preprocessing.override(**changes), notes


def _assumed(image: ImageInput, notes: list[str]) -> dict[str, Any]:
    """For inputs that no preset is made for: integers, and another number of channels than three."""
    if image.dtype in ("uint8", "int8"):
        fields = {"scale": 1.0, "mean": (0.0 if image.dtype == "uint8" else 128.0,), "std": (1.0,)}
        why = f"input '{image.name}' is {image.dtype}, so the model normalises the image itself"
    elif image.channels != 3:
        fields = {"scale": 1 / 255, "mean": (0.0,), "std": (1.0,)}
        plural = "s" * (image.channels > 1)
        why = f"input '{image.name}' has {image.channels} channel{plural}, and no preset is made for these"
    else:
        return {}
    notes.append(f"{why}: {_formula(fields)} was assumed; --scale, --mean and --std say otherwise")
    return fields


def _order(preprocessing: Preprocessing, image: ImageInput, notes: list[str]) -> dict[str, Any]:
    form = image.metadata.get(_FORMAT)
    if form is None:
        return {}
    color, count = _FORMATS.get(form) or ("", 0)
    says = f"the file's metadata say {_FORMAT} = {form}"
    if preprocessing.states("color"):
        if preprocessing.color != color:
            notes.append(f"{says}; color {preprocessing.color}, which was stated, wins over it")
        return {}
    if count != image.channels:
        notes.append(f"{says}, which was not followed: input '{image.name}' has {image.channels} channels")
        return {}
    notes.append(f"{says}: color {color}")
    return {"color": color}


def _formula(fields: dict[str, Any]) -> str:
    scale, mean = fields["scale"], fields["mean"][0]
    x = {1.0: "p", 1 / 255: "p / 255", 1 / 127.5: "p / 127.5"}.get(scale, f"p * {scale:.4g}")
    return f"x = {x}" + (f" {'-' if mean > 0 else '+'} {abs(mean):g}" if mean else "")

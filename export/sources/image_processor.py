"""A transformers image processor, as our `Preprocessing` and input size.

Processors differ in more than their settings: ConvNeXt divides its size by a crop share,
LeViT enlarges its shorter side, EfficientNet divides by the deviation twice. What is read
here is therefore tried out: the processor and `cfcam.runtime` prepare the same test photos,
and a difference is an error, not a silently wrong explanation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...runtime.contract.spec import InputSpec
from ...runtime.photos.preprocess import prepare
from ..errors import ExportError
from ..wording import words
from .preprocessing import Interpolation, Preprocessing

__all__ = ["ReadProcessor", "read_processor"]

# Pillow's numbers; box and hamming (4 and 5) have no counterpart in `ResizeSpec`.
_FILTERS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}

# From this side on ConvNeXt squeezes the whole photo in instead of cropping.
_CONVNEXT_WARPS = 384

# Test photos (width, height): wide and high, shrunk and enlarged, odd rests to cut off.
_TEST_PHOTOS = ((531, 418), (143, 210), (225, 225))

_BY_HAND = "give --preset and the options that describe the preprocessing by hand"


@dataclass(frozen=True)
class ReadProcessor:
    """preprocessing and size (height, width) of the input. notes: what a user should know, in sentences."""

    preprocessing: Preprocessing
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Geometry:
    """What happens to the photo: fields of `Preprocessing`, the input's size, and what to tell."""

    fields: dict[str, Any]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def read_processor(processor: Any, model_size: tuple[int, int] | None = None) -> ReadProcessor:
    """Read a transformers image processor, and try it out against our own preprocessing.

    model_size: (height, width) from the model's config, for processors that don't resize.
    Raises `ExportError` for what `Preprocessing` cannot say, and when the two differ on a photo.
    """
    name = type(processor).__name__
    timm = getattr(processor, "data_config", None)
    if timm is not None:
        geometry, colors = _timm_geometry(name, timm), _normalised(1 / 255, timm["mean"], timm["std"])
    else:
        geometry, colors = _geometry(name, processor, model_size), _colors(processor)
    preprocessing = Preprocessing(**colors, **geometry.fields)
    spec = preprocessing.input_spec("image", *geometry.size)
    _try_out(name, processor, spec, geometry)
    return ReadProcessor(preprocessing, geometry.size, geometry.notes)


def _colors(processor: Any) -> dict[str, Any]:
    """scale, mean, std and color: x = ((p * scale - offset) - mean) / std, in our order of terms."""
    scale = float(_setting(processor, "rescale_factor", 1 / 255)) if _setting(processor, "do_rescale") else 1.0
    mean, std = 0.0, 1.0
    if _setting(processor, "do_normalize"):
        mean, std = _setting(processor, "image_mean", 0.0), _setting(processor, "image_std", 1.0)
    colors = _normalised(scale, mean, std)
    if _setting(processor, "rescale_offset"):  # EfficientNet: p * scale - 1
        colors["mean"] = tuple(value + 1 for value in colors["mean"])
    if _setting(processor, "include_top"):  # EfficientNet: divided by image_std once more
        again = _three(_setting(processor, "image_std", 1.0))
        colors["std"] = tuple(a * b for a, b in zip(colors["std"], again, strict=True))
    if _setting(processor, "do_flip_channel_order"):
        colors["color"] = "bgr"
    return colors


def _normalised(scale: float, mean: Any, std: Any) -> dict[str, Any]:
    return {"scale": scale, "mean": _three(mean), "std": _three(std)}


def _geometry(name: str, processor: Any, model_size: tuple[int, int] | None) -> _Geometry:
    # Transformers cuts at the rounded down middle.
    fields: dict[str, Any] = {"interpolation": _filter(name, processor), "corner": "down"}
    sides = _sides(_setting(processor, "size"))
    crop = _height_width(_sides(_setting(processor, "crop_size"))) if _setting(processor, "do_center_crop") else None
    if not _setting(processor, "do_resize"):
        size = crop or model_size
        if size is None:
            raise ExportError(f"image processor {name}: does not resize and names no size: {_BY_HAND}")
        note = f"the image processor expects photos of the right size: others are stretched to {size[0]}x{size[1]}"
        return _Geometry({**fields, "mode": "stretch", "crop": "none"}, size, (note,))
    exact, shorter = _height_width(sides), sides.get("shortest_edge")
    share = _setting(processor, "crop_pct")
    if shorter and share and crop is None and name.startswith("ConvNext"):
        size = (shorter, shorter)
        if shorter >= _CONVNEXT_WARPS:
            return _Geometry({**fields, "mode": "stretch", "crop": "none"}, size)
        return _Geometry({**fields, "mode": "shorter", **_before_crop(int(shorter / share), size)}, size)
    if share and name.startswith("PoolFormer"):
        side = shorter or (exact[0] if exact and exact[0] == exact[1] else None)
        shorter, exact = int(side / share) if side else None, None
    elif shorter and name.startswith("Levit"):
        shorter = int(256 / 224 * shorter)
    if exact:
        if crop is None or crop == exact:
            return _Geometry({**fields, "mode": "stretch", "crop": "none"}, exact)
        if exact[0] != exact[1]:
            raise ExportError(
                f"image processor {name}: stretches to {exact[0]}x{exact[1]} and then crops, which only squares allow: "
                + _BY_HAND
            )
        mode, before = "stretch", exact[0]
    elif shorter and not sides.get("longest_edge"):
        mode, before = "shorter", shorter
    else:
        raise ExportError(f"image processor {name}: its size {sides or 'is missing'} cannot be followed: {_BY_HAND}")
    if crop is None:
        note = (
            f"the image processor keeps the photo's shape (shorter side {before}); an exported model has one input "
            f"size: the middle {before}x{before} is taken"
        )
        return _Geometry({**fields, "mode": mode}, (before, before), (note,))
    if before < max(crop):
        raise ExportError(
            f"image processor {name}: crops {crop[0]}x{crop[1]} out of photos whose shorter side is {before}, and "
            f"fills the rest with black: {_BY_HAND}"
        )
    return _Geometry({**fields, "mode": mode, **_before_crop(before, crop)}, crop)


def _timm_geometry(name: str, config: dict[str, Any]) -> _Geometry:
    """timm's evaluation transform, from its resolved data configuration."""
    _, height, width = config["input_size"]
    before = [math.floor(side / config["crop_pct"]) for side in (height, width)]
    mode = {"center": "shorter", "squash": "stretch"}.get(config.get("crop_mode", "center"))
    if mode is None or before[0] != before[1]:
        raise ExportError(
            f"image processor {name}: crop mode '{config.get('crop_mode')}' on {height}x{width} cannot be followed: "
            + _BY_HAND
        )
    fields = {"mode": mode, "interpolation": config["interpolation"], **_before_crop(before[0], (height, width))}
    return _Geometry(fields, (height, width))


def _before_crop(side: int, crop: tuple[int, int]) -> dict[str, float]:
    """As a ratio, so that another ``--input-size`` moves both."""
    return {"ratio": max(crop) / side}


def _filter(name: str, processor: Any) -> Interpolation:
    number = _setting(processor, "resample", 2)
    try:
        return _FILTERS[int(number)]
    except (KeyError, TypeError, ValueError):
        raise ExportError(f"image processor {name}: resample {number} is no filter of ours: {_BY_HAND}") from None


def _setting(processor: Any, name: str, default: Any = None) -> Any:
    value = getattr(processor, name, None)
    return default if value is None else value


def _sides(size: Any) -> dict[str, int]:
    """A size as transformers writes it in any version: a number, a dict or an object."""
    if isinstance(size, int):
        return {"height": size, "width": size}
    names = ("height", "width", "shortest_edge", "longest_edge")
    values = {n: size.get(n) if isinstance(size, dict) else getattr(size, n, None) for n in names}
    return {n: int(value) for n, value in values.items() if value}


def _height_width(sides: dict[str, int]) -> tuple[int, int] | None:
    return (sides["height"], sides["width"]) if "height" in sides and "width" in sides else None


def _three(value: Any) -> tuple[float, ...]:
    values = [float(value)] if isinstance(value, int | float) else [float(v) for v in value]
    return tuple(values * 3 if len(values) == 1 else values)


def _try_out(name: str, processor: Any, spec: InputSpec, geometry: _Geometry) -> None:
    """Let both prepare test photos. Raises `ExportError` when the results differ.

    With Pillow behind the processor they agree but for float32 rounding; torchvision's own
    resize of 8-bit tensors is up to two levels away from Pillow's.
    """
    from PIL import Image

    levels = 0.05 if getattr(processor, "backend", "pil") == "pil" else 3
    allowed = levels * abs(spec.scale) / min(abs(v) for v in spec.std)
    photos = _TEST_PHOTOS
    if geometry.notes:  # where we go another way by intention only a photo of the input's shape can agree
        photos = ((spec.width, spec.height),)
    generator = np.random.default_rng(0)
    for width, height in photos:
        coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), np.uint8)).resize((width, height))
        grain = generator.integers(-20, 21, (height, width, 3))
        photo = Image.fromarray(np.clip(np.asarray(coarse, np.int64) + grain, 0, 255).astype(np.uint8))
        try:
            theirs = np.asarray(processor(images=photo, return_tensors="pt")["pixel_values"])[0]
        except Exception as error:  # a processor may raise anything
            raise ExportError(f"image processor {name}: fails on a test photo: {words(error)}") from error
        ours = prepare(photo, spec).tensor
        if theirs.shape != ours.shape:
            problem = f"gives {theirs.shape} instead of {ours.shape}"
        elif (difference := float(np.abs(theirs - ours).max())) > allowed:
            problem = f"differs by {difference:.3g} (one level of a pixel is {spec.scale / spec.std[0]:.3g})"
        else:
            continue
        raise ExportError(
            f"image processor {name}: does more than its settings say, on a test photo of {width}x{height} pixels it "
            f"{problem}: {_BY_HAND}"
        )

"""From an upright photo to the model's input tensor, exactly as `InputSpec` says.

x = (p * scale - mean) / std with p the 8-bit value. There are 256 of them, so each channel's x is
looked up in a table that was computed in double precision: the result is the correctly rounded
float32. Resizing is Pillow's, on 8-bit pixels, which is also what torchvision does with a Pillow
image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.spec import InputSpec
from ..errors import ArrayError
from .frame import Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["Prepared", "check_tensor", "prepare", "tensor_to_image"]

#: A scaled photo with more pixels than this is never made as a whole: only the part inside the
#: crop is computed. (A photo of 1 x 5000 pixels with a shorter side of 256 would have 327 million.)
_WHOLE_PIXELS = 64_000_000


@dataclass(frozen=True)
class Prepared:
    """tensor: the input's dtype, (C, H, W) or (H, W, C) by its layout. frame: where it lies on the photo."""

    tensor: NDArray[Any]
    frame: Frame


def prepare(image: Image.Image, spec: InputSpec) -> Prepared:
    """Resize, crop or pad, and normalise an upright RGB `image`.

    Grey models get Pillow's luma (ITU-R 601-2), taken before resizing. Padding is filled with
    the mean colour, which is x = 0 exactly.
    """
    frame = Frame.fit(image.size, spec)
    pixels = np.asarray(_cut(image.convert("L") if spec.color == "gray" else image, frame, spec))
    pixels = pixels.reshape(*pixels.shape[:2], spec.channels)
    if spec.color == "bgr":
        pixels = pixels[:, :, ::-1]
    levels = np.arange(256) * spec.scale
    planes = np.zeros((spec.channels, spec.height, spec.width), np.float32)
    top, left = (max(0, -offset) for offset in reversed(frame.offset))
    rows, columns = slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        table = ((levels - mean) / std).astype(np.float32)
        planes[channel, rows, columns] = table[pixels[:, :, channel]]
    if spec.layout == "NHWC":
        planes = planes.transpose(1, 2, 0)
    return Prepared(np.ascontiguousarray(planes, dtype=spec.dtype), frame)


def _cut(image: Image.Image, frame: Frame, spec: InputSpec) -> Image.Image:
    """The 8-bit pixels of the scaled photo that lie inside the input rectangle."""
    from PIL import Image

    resampling = Image.Resampling[spec.resize.interpolation.upper()]
    (w1, h1), (left, top), (w, h) = frame.resized, frame.offset, frame.input
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, w1), min(top + h, h1)
    if w1 * h1 <= _WHOLE_PIXELS:
        whole = image.resize((w1, h1), resampling)
        return whole if (x0, y0, x1, y1) == (0, 0, w1, h1) else whole.crop((x0, y0, x1, y1))
    sx, sy = image.width / w1, image.height / h1
    return image.resize((x1 - x0, y1 - y0), resampling, box=(x0 * sx, y0 * sy, x1 * sx, y1 * sy))


def check_tensor(array: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    """A ready input tensor for one image, or for N: returned as (N, ...) in the input's dtype.

    array: float32 in the model's own layout, (C, H, W) or (N, C, H, W) (or its NHWC forms).
    Raises `ArrayError` for another shape or dtype, and for NaN or infinity.
    """
    one = spec.shape(1)[1:]
    if array.dtype != np.float32 and array.dtype != np.dtype(spec.dtype):
        raise ArrayError(
            f"input '{spec.name}': expected a float32 tensor, got {array.dtype}: convert it with "
            "astype(numpy.float32), or give a photo as uint8 (H, W, 3)"
        )
    if array.shape[-3:] != one or array.ndim not in (3, 4):
        axes = "C, H, W" if spec.layout == "NCHW" else "H, W, C"
        raise ArrayError(
            f"input '{spec.name}': expected a tensor of shape {one} or (N, {', '.join(map(str, one))}) "
            f"({axes}), got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ArrayError(f"input '{spec.name}': the tensor holds NaN or infinity")
    return np.ascontiguousarray(array.reshape(-1, *one), dtype=spec.dtype)


def tensor_to_image(tensor: NDArray[Any], spec: InputSpec) -> Image.Image:
    """The picture that a ready tensor (C, H, W), in the model's layout, stands for: p from x, as RGB."""
    from PIL import Image

    planes = tensor.astype(np.float64)
    if spec.layout == "NCHW":
        planes = planes.transpose(1, 2, 0)
    levels = np.clip(np.rint((planes * spec.std + spec.mean) / spec.scale), 0, 255).astype(np.uint8)
    if spec.color == "bgr":
        levels = levels[:, :, ::-1]
    if spec.color == "gray":
        levels = np.repeat(levels, 3, axis=2)
    return Image.fromarray(np.ascontiguousarray(levels))

"""From a photo to the model's input tensor, exactly as `InputSpec` says.

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
from ..timing import timed
from .frame import Frame
from .images import open_image, source_name

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from .images import ImageLike

__all__ = ["Prepared", "check_tensor", "prepare", "tensor_to_image"]

#: A scaled photo with more pixels than this is never made as a whole: only the part inside the
#: crop is computed. (A photo of 1 x 5000 pixels with a shorter side of 256 would have 327 million.)
_WHOLE_PIXELS = 64_000_000


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photo as a model takes it.

    photo: upright, RGB; of a ready tensor, the picture that it stands for. tensor: of the input's dtype, (C, H, W) or
    (H, W, C) by its layout. frame: where it lies on the photo. source: the photo's path, "array" or "image".
    times_ms: milliseconds that ``decode`` and ``preprocess`` took.
    """

    photo: Image.Image
    tensor: NDArray[Any]
    frame: Frame
    source: str
    times_ms: dict[str, float]


def prepare(source: ImageLike, spec: InputSpec, max_pixels: int | None = None) -> Prepared:
    """Open a photo, then resize, crop or pad, and normalise it; a ready tensor is checked instead.

    Grey models get Pillow's luma (ITU-R 601-2), taken before resizing. Padding is filled with
    the mean colour, which is x = 0 exactly.

    Args:
        source: A path, a Pillow image, uint8 (H, W), (H, W, 3) or (H, W, 4), or a float32 tensor of one image in the
            model's own layout.
        spec: The model's input.
        max_pixels: As in `open_image`.

    Raises:
        ImageError: The photo cannot be opened.
        ArrayError: An array of another shape or dtype, or with non-finite values.
    """
    times: dict[str, float] = {}
    if isinstance(source, np.ndarray) and source.dtype != np.uint8:
        with timed(times, "preprocess"):
            tensors = check_tensor(source, spec)
        if len(tensors) != 1:
            raise ArrayError(f"expected one tensor per image, got shape {source.shape}")
        whole = Frame.whole(spec.width, spec.height)
        return Prepared(tensor_to_image(tensors[0], spec), tensors[0], whole, "array", times)
    with timed(times, "decode"):
        photo = open_image(source, max_pixels=max_pixels)
    with timed(times, "preprocess"):
        frame = Frame.fit(photo.size, spec)
        tensor = _to_tensor(photo, frame, spec)
    return Prepared(photo, tensor, frame, source_name(source), times)


def _to_tensor(image: Image.Image, frame: Frame, spec: InputSpec) -> NDArray[Any]:
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
    return np.ascontiguousarray(planes, dtype=spec.dtype)


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
    Raises `ArrayError` for no image, another shape or dtype, and for NaN or infinity.
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
    if len(array) == 0:
        raise ArrayError(f"input '{spec.name}': expected at least one image, got a tensor of shape {array.shape}")
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

"""From a photo to the model's input tensor, exactly as `InputSpec` says.

x = (p * scale - mean) / std with p the 8-bit value. There are 256 of them, so each channel's x is
looked up in a table that was computed in double precision: the result is the correctly rounded
float32. Resizing is Pillow's, on 8-bit pixels, which is also what torchvision does with a Pillow
image. Photos of more bits keep them: they are resized as float32, and the formula is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.spec import InputSpec
from ..errors import ArrayError, PhotoWarning
from ..shown import shown_value
from ..timing import timed
from .frame import Frame
from .images import source_name
from .photo import Photo, check_shown, open_photo, picture_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from .images import ImageLike

__all__ = ["Prepared", "as_input", "check_tensor", "is_tensor", "prepare", "tensor_to_image"]

#: Types of arrays that may be photos.
_PHOTO_TYPES = ("uint8", "uint16", "int16", "uint32", "int32")

#: A scaled photo with more pixels than this is never made as a whole: only the part inside the
#: crop is computed. (A photo of 1 x 5000 pixels with a shorter side of 256 would have 327 million.)
_WHOLE_PIXELS = 64_000_000


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photo as a model takes it.

    photo: upright, RGB; of a ready tensor, the picture that it stands for. tensor: of the input's dtype, (C, H, W) or
    (H, W, C) by its layout. frame: where it lies on the photo. source: the photo's path, "array" or "image".
    times_ms: milliseconds that ``decode`` and ``preprocess`` took. notes: what was doubtful about the photo's values.
    """

    photo: Image.Image
    tensor: NDArray[Any]
    frame: Frame
    source: str
    times_ms: dict[str, float]
    notes: tuple[str, ...] = ()


def is_tensor(array: NDArray[Any], spec: InputSpec) -> bool:
    """Whether an array is ready for the model; else it is a photo, or several.

    Floating-point arrays are ready. Integers are, where the model takes that type and the shape is its input's.
    """
    if array.dtype == np.dtype(spec.dtype) and array.shape[-3:] == spec.shape(1)[1:]:
        return True
    return array.dtype.name not in _PHOTO_TYPES


def as_input(values: NDArray[Any], dtype: str | np.dtype[Any]) -> NDArray[Any]:
    """`values` as the type of a model's input: for integers rounded, and cut where the type ends."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.ascontiguousarray(values, dtype=kind)


def prepare(
    source: ImageLike, spec: InputSpec, max_pixels: int | None = None, *, show: Sequence[int] | None = None
) -> Prepared:
    """Open a photo, then resize, crop or pad, and normalise it; a ready tensor is checked instead.

    Grey models get Pillow's luma (ITU-R 601-2), taken before resizing. Padding is filled with
    the mean colour, which is x = 0 exactly, or where preprocessing is folded into the graph the x that becomes 0 there
    (for integer inputs, what is nearest to it). What is doubtful about the
    photo's values is warned of (`PhotoWarning`).

    Args:
        source: A path (``.npy`` and ``.npz`` too), a Pillow image, an array of integers (H, W), (H, W, C) or, in
            uint8, (H, W, 4) in RGBA, or a ready tensor of one image in the model's own layout (see `is_tensor`).
        spec: The model's input.
        max_pixels: As in `open_image`.
        show: Numbers of the channels, from 1, that `Prepared.photo` shows: one or three; None for the usual ones.

    Raises:
        ImageError: The photo cannot be opened, or has another number of channels.
        ArrayError: An array of another shape or dtype, or with non-finite values.
    """
    times: dict[str, float] = {}
    if show is not None:
        check_shown(show, spec.channels)
    if isinstance(source, np.ndarray) and is_tensor(source, spec):
        with timed(times, "preprocess"):
            tensors = check_tensor(source, spec)
        if len(tensors) != 1:
            raise ArrayError(f"expected one tensor per image, got shape {source.shape}")
        whole = Frame.whole(spec.width, spec.height)
        return Prepared(tensor_to_image(tensors[0], spec, show), tensors[0], whole, "array", times)
    with timed(times, "decode"):
        photo = open_photo(source, spec, max_pixels)
    for note in photo.notes:
        warnings.warn(note, PhotoWarning, stacklevel=2)
    with timed(times, "preprocess"):
        frame = Frame.fit(photo.picture.size, spec)
        tensor = _to_tensor(photo, frame, spec)
    return Prepared(_shown(photo, spec, show), tensor, frame, source_name(source), times, photo.notes)


def _shown(photo: Photo, spec: InputSpec, show: Sequence[int] | None) -> Image.Image:
    """The picture that is asked for, by the channels that the model takes; numbers of `bgr` mean R, G, B, too."""
    if show is None:
        return photo.picture
    bands = photo.bands or (photo.picture.convert("L") if spec.color == "gray" else photo.picture).split()
    return picture_of(np.stack([np.asarray(band) for band in bands], axis=-1), show)


def _to_tensor(photo: Photo, frame: Frame, spec: InputSpec) -> NDArray[Any]:
    if photo.bands is None:
        picture = photo.picture.convert("L") if spec.color == "gray" else photo.picture
        pixels = np.asarray(_cut(picture, frame, spec))
        pixels = pixels.reshape(*pixels.shape[:2], spec.channels)
    else:  # one by one: Pillow would take the fourth of four for transparency
        pixels = np.stack([np.asarray(_cut(band, frame, spec)) for band in photo.bands], axis=-1)
    if spec.color == "bgr":
        pixels = pixels[:, :, ::-1]
    levels = np.arange(256) * spec.scale
    planes = np.zeros((spec.channels, spec.height, spec.width), np.float32)
    planes += np.asarray(spec.blank, np.float32)[:, None, None]
    top, left = (max(0, -offset) for offset in reversed(frame.offset))
    rows, columns = slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        plane = pixels[:, :, channel]
        if pixels.dtype == np.uint8:
            planes[channel, rows, columns] = ((levels - mean) / std).astype(np.float32)[plane]
        else:  # cubic filters overshoot, which 8-bit pixels are kept from, too
            planes[channel, rows, columns] = (np.clip(plane.astype(np.float64), 0, 255) * spec.scale - mean) / std
    if spec.layout == "NHWC":
        planes = planes.transpose(1, 2, 0)
    return as_input(planes, spec.dtype)


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

    array: float32, or of the input's dtype, in the model's own layout, (C, H, W) or (N, C, H, W) (or its NHWC forms).
    Raises `ArrayError` for no image, another shape or dtype, and for NaN or infinity.
    """
    one = spec.shape(1)[1:]
    integers = spec.dtype in ("uint8", "int8")
    expected = spec.dtype if integers else "float32"  # rounding is for whoever makes integers of numbers that are none
    if not isinstance(array, np.ndarray):
        raise ArrayError(
            f"images: expected {expected} tensors as a numpy array, got {shown_value(array)} ({type(array).__name__})"
        )
    if array.dtype != np.dtype(expected) and array.dtype != np.dtype(spec.dtype):
        raise ArrayError(
            f"input '{spec.name}': expected a {expected} tensor, got {array.dtype}: convert it with "
            f"astype(numpy.{expected}), or give a photo as uint8 (H, W, {spec.channels})"
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


def tensor_to_image(tensor: NDArray[Any], spec: InputSpec, show: Sequence[int] | None = None) -> Image.Image:
    """The picture that a ready tensor (C, H, W), in the model's layout, stands for: p from x, as RGB.

    show: as for `prepare`.
    """
    planes = tensor.astype(np.float64)
    if spec.layout == "NCHW":
        planes = planes.transpose(1, 2, 0)
    levels = (planes * spec.std + spec.mean) / spec.scale
    return picture_of(levels[:, :, ::-1] if spec.color == "bgr" else levels, show)

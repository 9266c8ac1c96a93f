"""A photo with the channels that a model takes, and the picture of it that people are shown."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import check_count
from ..contract.spec import InputSpec
from ..errors import ArrayError, ImageError, one_line
from .images import (
    ARRAY_SUFFIXES,
    DEEP_MODES,
    check_size,
    decoded_rgb,
    open_image,
    opened_file,
    source_name,
    upright,
)
from .levels import eight_bit_note, narrow_range_note, to_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from .images import ImageLike

__all__ = ["Photo", "check_shown", "open_photo", "picture_of"]

# Modes whose channels are what the file holds. Of any other mode (palettes, CMYK) only the colours mean something.
_AS_THEY_ARE = frozenset({"L", "LA", "RGB", "RGBA"}) | DEEP_MODES
#: Bytes of what may stand for one pixel: three numbers in double precision.
_LARGEST_VALUE = 24
_ARRAY = "a .npy file of shape (H, W, C)"


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as it was opened for a model.

    picture: upright, RGB, 8 bits. bands: what the model takes, one "L" or "F" image (p from 0 to 255) per channel in
    the order R, G, B or the photo's own; None where the picture says it all. notes: warnings, in sentences.
    """

    picture: Image.Image
    bands: tuple[Image.Image, ...] | None = None
    notes: tuple[str, ...] = ()


def open_photo(source: ImageLike, spec: InputSpec, max_pixels: int | None = None) -> Photo:
    """Open a photo for a model.

    Args:
        source: What `open_image` takes; a ``.npy`` or ``.npz`` file; or an array of integers of 8 to 32 bits. Arrays
            have the shape (H, W), (H, W, C) or (C, H, W); where both ends fit, the channels come last.
        spec: The model's input, which says how many channels there are, and the range of deep photos.
        max_pixels: As in `open_image`. A pixel of C channels of more than 8 bits counts C + 1 times.

    Raises:
        ImageError: The photo cannot be opened, is too large, or has another number of channels.
        ArrayError: An array of another shape or type.
    """
    from PIL import Image

    name = source_name(source)
    if max_pixels is not None:
        check_count("max_pixels", max_pixels)
    if isinstance(source, np.ndarray):
        if source.dtype == np.uint8 and spec.color != "channels" and not _is_planar(source):
            return Photo(open_image(source, max_pixels=max_pixels))
        return _of_values(source, name, spec, max_pixels, ArrayError)
    if isinstance(source, Image.Image):
        check_size(source.size, name, max_pixels, source.format)
        return _of_image(source, name, spec, max_pixels)
    if not isinstance(source, str | os.PathLike):
        return Photo(open_image(source))  # which refuses it
    if Path(source).suffix.lower() in ARRAY_SUFFIXES:
        return _of_values(_read_array(Path(source), max_pixels), name, spec, max_pixels)
    with opened_file(source, max_pixels) as image:
        return _of_image(image, name, spec, max_pixels, owned=True)


def _is_planar(array: NDArray[Any]) -> bool:
    return array.ndim == 3 and array.shape[2] not in (3, 4) and array.shape[0] in (1, 3)


def _of_image(image: Image.Image, name: str, spec: InputSpec, max_pixels: int | None, *, owned: bool = False) -> Photo:
    """owned: as for `decoded_rgb`."""
    if spec.color == "channels" and spec.channels > 1 and image.format == "TIFF" and _pages(image) > 1:
        return _of_values(_stacked(image, name, spec, max_pixels), name, spec, max_pixels)
    # Before it is decoded, an image says how its file holds it: 16-bit colour, of which Pillow gives the upper 8 bits.
    deep_colour = image.mode not in DEEP_MODES and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if deep_colour and spec.photo_range not in (None, (0, 65535)):
        raise ImageError(
            f"{name}: holds 16-bit colour, of which Pillow reads the upper 8 bits, too coarse for a range that is "
            f"stated: give it as {_ARRAY}"
        )
    if spec.color != "channels" and image.mode not in DEEP_MODES:
        picture = decoded_rgb(image, name, owned=owned)
        return Photo(
            picture, notes=_deep_notes(picture, name) if deep_colour else eight_bit_note(name, spec.photo_range)
        )
    check_size(image.size, name, max_pixels, image.format, cost=len(image.getbands()) + 1)
    image = upright(image, name)
    if image.mode not in _AS_THEY_ARE:
        transparent = "transparency" in image.info or "a" in image.mode or "A" in image.mode
        image = image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")
    photo = _of_values(np.asarray(image), name, spec, max_pixels)
    return Photo(photo.picture, photo.bands, (*(_deep_notes(image, name) if deep_colour else ()), *photo.notes))


def _deep_notes(image: Image.Image, name: str) -> tuple[str, ...]:
    """The warning about 16-bit colour that is all but black, if it is. image: its upper 8 bits."""
    highest = max(int(high) for _, high in np.atleast_2d(image.getextrema()))
    return narrow_range_note(name, highest * 257.0, 65535.0)


def _pages(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _stacked(image: Image.Image, name: str, spec: InputSpec, max_pixels: int | None) -> NDArray[Any]:
    """The pages of a TIFF, one channel each, as (H, W, C)."""
    count = _pages(image)
    if count != spec.channels:
        raise ImageError(_wrong_number(name, count, spec))
    _check_values((image.height, image.width, count), name, max_pixels)
    pages = []
    for number in range(count):
        image.seek(number)
        page = np.asarray(upright(image, name))
        first = pages[0] if pages else page
        if page.ndim != 2 or page.shape != first.shape:
            raise ImageError(
                f"{name}: page {number + 1} has shape {page.shape}, the first {first.shape}: a photo of several pages "
                f"has one channel on each, all of one size; otherwise give {_ARRAY}"
            )
        pages.append(page)
    return np.stack(pages, axis=-1)


def _read_array(path: Path, max_pixels: int | None) -> NDArray[Any]:
    """What the file holds. A ``.npy`` is not read yet, so that a header cannot ask for any amount of memory."""
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with zipfile.ZipFile(path) as archive:
            sizes = {Path(entry.filename).stem: entry.file_size for entry in archive.infolist()}
        chosen = next(iter(sizes)) if len(sizes) == 1 else "image"
        if chosen not in sizes:
            raise ImageError(f"{path}: holds {len(sizes)} arrays ({', '.join(sizes)}): name the photo 'image'")
        check_size((sizes[chosen] // _LARGEST_VALUE, 1), str(path), max_pixels)
        with np.load(path, allow_pickle=False) as archive:
            return archive[chosen]
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except ImageError:
        raise
    except Exception as error:  # numpy and zipfile raise whatever they like on damaged data
        raise ImageError(f"{path}: is not an array that numpy can read ({one_line(error)})") from error


def _check_values(shape: tuple[int, ...], name: str, max_pixels: int | None) -> None:
    """Raise `ImageError` for an array (H, W, C) that is too large: its channels are numbers of 32 bits for a while."""
    check_size((shape[1], shape[0]), name, max_pixels, cost=shape[2] + 1)


def _of_values(
    values: NDArray[Any],
    name: str,
    spec: InputSpec,
    max_pixels: int | None,
    refusal: type[ImageError] | type[ArrayError] = ImageError,
) -> Photo:
    """A photo from its values (H, W), (H, W, C) or (C, H, W), of any type."""
    from PIL import Image

    values = _channels_last(values, name, spec, refusal)
    _check_values(values.shape, name, max_pixels)
    levels, notes = to_levels(values, name, spec.photo_range)
    picture = picture_of(levels)
    if spec.color == "gray" and levels.shape[2] == 3:  # Pillow's own luma, of values that need not be whole
        levels = (levels @ np.array((0.299, 0.587, 0.114), np.float32))[..., None].astype(np.float32)
    bands = tuple(Image.fromarray(np.ascontiguousarray(levels[:, :, i])) for i in range(levels.shape[2]))
    return Photo(picture, bands * 3 if spec.color in ("rgb", "bgr") and len(bands) == 1 else bands, notes)


def _channels_last(
    values: NDArray[Any], name: str, spec: InputSpec, refusal: type[ImageError] | type[ArrayError]
) -> NDArray[Any]:
    """As (H, W, C), with as many channels as the model takes, or those from which its own are made."""
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or 0 in values.shape:
        raise refusal(f"{name}: has shape {values.shape}, expected a photo (H, W) or (H, W, C)")
    taken = (spec.channels,) if spec.color == "channels" else (1, 3)
    if values.shape[2] in taken:
        return values
    if values.shape[0] in taken:
        return np.moveaxis(values, 0, 2)
    raise refusal(_wrong_number(name, min(values.shape[0], values.shape[2]), spec))


def _wrong_number(name: str, have: int, spec: InputSpec) -> str:
    remedy = (
        f"give all of them, as {_ARRAY} or a TIFF of as many pages"
        if spec.color == "channels"
        else f"give those that the model knows, as {_ARRAY}"
    )
    return f"{name}: has {have} channel{'s' * (have != 1)}, but the model takes {spec.channels}: {remedy}"


def check_shown(show: Sequence[int], channels: int) -> None:
    """Raise `ImageError` for numbers of channels (from 1) from which no picture can be made."""
    if len(show) not in (1, 3) or not all(isinstance(n, int) and 1 <= n <= channels for n in show):
        raise ImageError(
            f"--show-channels: expected one number or three, from 1 to {channels}, got {', '.join(map(str, show))}"
        )


def picture_of(levels: NDArray[Any], show: Sequence[int] | None = None) -> Image.Image:
    """An RGB picture of p (H, W, C): of the channels `show` (numbers from 1), or of the first three, or the first."""
    from PIL import Image

    channels = levels.shape[2]
    if show is None:
        show = (1, 2, 3) if channels >= 3 else (1,)
    check_shown(show, channels)
    planes = [levels[:, :, number - 1] for number in show]
    eight = [np.rint(np.clip(plane, 0, 255)).astype(np.uint8) for plane in planes]
    return Image.fromarray(np.stack(eight if len(eight) == 3 else eight * 3, axis=-1))

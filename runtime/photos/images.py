"""Opening a photo, whatever it is, as an upright 8-bit RGB image; and finding photos.

Choices, made once here:

- The EXIF orientation is applied. All coordinates that leave cfcam are fractions of this
  upright photo.
- Transparent pixels are laid over white, as a viewer shows them.
- 16-bit grey is scaled to 8 bits (65535 -> 255), not clipped. 16-bit colour is brought to
  8 bits by Pillow.
- Of an animation, the first frame is used.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArrayError, ImageError, one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    #: What `open_image` takes.
    ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any]

__all__ = ["IMAGE_SUFFIXES", "find_images", "open_image", "source_name"]

#: Suffixes by which folders and globs recognise images (case does not matter).
IMAGE_SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
        *(".tga", ".tif", ".tiff", ".webp"),
    }
)

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


def open_image(source: ImageLike) -> Image.Image:
    """A photo, upright and fully decoded.

    Args:
        source: A path, a Pillow image (which is not changed), or an array of uint8: (H, W), (H, W, 3) in RGB or
            (H, W, 4) in RGBA.

    Returns:
        The photo as RGB of 8 bits, turned as its EXIF data say.

    Raises:
        ImageError: The file is missing, unreadable, truncated, not an image or too large.
        ArrayError: The array has another shape or type.
    """
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source), "array")
    if isinstance(source, Image.Image):
        return _decode(source, source_name(source))
    if not isinstance(source, str | os.PathLike):
        raise ImageError(f"expected a path, a Pillow image or a uint8 array, got {type(source).__name__}")
    path = Path(source)
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, an image file was expected")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: is empty (0 bytes)")
        with Image.open(path) as image:
            return _decode(image, str(path))
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{path}: is not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        limit = f"the limit of {2 * (Image.MAX_IMAGE_PIXELS or 0)} (twice PIL.Image.MAX_IMAGE_PIXELS)"
        raise ImageError(f"{path}: has more pixels than {limit}: make it smaller first") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SyntaxError, ValueError) as error:  # raised by Pillow's readers while they parse a header
        raise ImageError(f"{path}: is damaged ({one_line(error)})") from error


def source_name(source: Any) -> str:
    """How messages and results call a photo.

    Args:
        source: What `open_image` takes.

    Returns:
        Its path, or what kind of object it is: "array" or "image".
    """
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, np.ndarray):
        return "array"
    return str(getattr(source, "filename", "") or "image")


def find_images(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Expand files, folders and glob patterns (``**`` for any depth) into image paths.

    A folder stands for the images directly in it, by their suffix; a pattern for the images
    that it matches, or for all its matches where it spells a suffix out. A plain file name is
    passed on without a look, so that a missing file fails on its own when it is opened.

    Args:
        sources: Files, folders and patterns.

    Returns:
        Paths in the order of `sources`, sorted by name within each, every file once.

    Raises:
        ImageError: A folder or a pattern has no image, or a folder cannot be read.
    """
    found: dict[str, Path] = {}
    for source in sources:
        for path in _expand(os.fspath(source)):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _expand(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        try:
            inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        except OSError as error:
            raise ImageError(f"{path}: folder cannot be read ({error.strerror or error})") from error
        images = [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
        if not images:
            raise ImageError(f"{path}: no images in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
        return images
    if path.exists() or not glob.has_magic(source):
        return [path]
    spelled_out = bool(path.suffix) and not glob.has_magic(path.suffix)
    matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]
    images = [p for p in matches if p.is_file() and (spelled_out or p.suffix.lower() in IMAGE_SUFFIXES)]
    if not images:
        raise ImageError(f"{source}: matches no image files")
    return images


def _from_array(array: NDArray[Any]) -> Image.Image:
    from PIL import Image

    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shape_fits:
        raise ArrayError(
            f"image array: expected uint8 of shape (H, W), (H, W, 3) or (H, W, 4), got {array.dtype} of shape "
            f"{array.shape}"
        )
    if 0 in array.shape:
        raise ArrayError(f"image array: has no pixels (shape {array.shape})")
    return Image.fromarray(np.ascontiguousarray(array))


def _decode(image: Image.Image, name: str) -> Image.Image:
    from PIL import ImageOps

    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise whatever they like on damaged data
        raise ImageError(f"{name}: is truncated or damaged ({one_line(error)})") from error
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing about the pixels, which are fine
        upright = image
    return _to_rgb(upright, name)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    from PIL import Image

    if min(image.size) < 1:
        raise ImageError(f"{name}: has no pixels ({image.width}x{image.height})")
    if image.mode == "F":
        raise ImageError(f"{name}: holds floating-point pixels, whose range is not known: save it with 8 or 16 bits")
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name}: holds 32-bit pixels: save it with 8 or 16 bits")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")  # a copy, also of an image that is RGB already

"""Opening a photo, whatever it is, as an upright 8-bit RGB image; and finding photos.

Choices, made once here:

- The EXIF orientation is applied. All coordinates that leave cfcam are fractions of this
  upright photo.
- Transparent pixels are laid over white, as a viewer shows them.
- Grey of 16 bits or floating-point numbers is scaled to 8 bits, not clipped (65535 -> 255, or
  1 -> 255). 16-bit colour is brought to 8 bits by Pillow. (What a model gets is finer where the
  photo is: see `photo.py`.)
- Of an animation, the first frame is used.
- Only the formats of `IMAGE_SUFFIXES` are read, whatever a file's name says: Pillow has readers that start other
  programs.
- A photo with more than `MAX_PIXELS` pixels is refused before it is decoded. Up to there, opening one takes less than
  600 MB: what is not RGB yet is converted a band of rows at a time.
"""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import check_count, expect
from ..errors import ArrayError, CfcamError, ImageError, one_line
from .levels import to_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    #: What `open_image` takes.
    ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any]

__all__ = [
    "ARRAY_SUFFIXES",
    "DEEP_MODES",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "check_size",
    "decoded_rgb",
    "find_images",
    "open_image",
    "opened_file",
    "pixel_limit",
    "real_path",
    "source_name",
    "upright",
    "upright_size",
]

#: Suffixes by which folders and globs recognise images (case does not matter).
IMAGE_SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
        *(".tga", ".tif", ".tiff", ".webp"),
    }
)

#: Photos that are arrays of numpy's: a folder stands for these where it has no images.
ARRAY_SUFFIXES = frozenset({".npy", ".npz"})

#: Pillow's modes of more than 8 bits, each with one channel.
DEEP_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I", "F"})

#: Pixels of the largest photo that is opened, unless `pixel_limit` or an argument says otherwise.
MAX_PIXELS = 40_000_000

_limit = MAX_PIXELS

#: Pillow's names of what is read. HEIF is there where `pillow_heif` has registered it.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "GIF", "BMP", "DIB", "PPM", "TGA", "JPEG2000", "MPO")
#: Formats whose decoders hold several copies of the photo: they get half as many pixels.
_COSTLY = frozenset({"WEBP", "AVIF", "HEIF", "JPEG2000"})
#: How a photo is turned that was stored with this EXIF orientation: the names of Pillow's `Transpose`.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ORIENTATION = 0x0112
#: Where Pillow keeps an orientation, which no longer holds for the upright photo.
_SAYS_ORIENTATION = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
#: Pixels that are converted at a time.
_BAND = 2**20


@contextmanager
def pixel_limit(count: int) -> Iterator[None]:
    """For a block, and for all threads meanwhile, another limit than `MAX_PIXELS`.

    Args:
        count: Pixels of the largest photo that is opened.

    Raises:
        ArrayError: It is no whole number above 0.
    """
    global _limit
    check_count("max_pixels", count)
    before, _limit = _limit, count
    try:
        yield
    finally:
        _limit = before


def open_image(source: ImageLike, *, max_pixels: int | None = None) -> Image.Image:
    """A photo, upright and fully decoded.

    Args:
        source: A path, a Pillow image (which is not changed), or an array of uint8: (H, W), (H, W, 3) in RGB or
            (H, W, 4) in RGBA.
        max_pixels: More than that are refused before they are decoded (half of it for WebP, AVIF, HEIF and JPEG 2000,
            whose decoders take more memory); None for 40 million.

    Returns:
        The photo as RGB of 8 bits, turned as its EXIF data say.

    Raises:
        ImageError: The file is missing, unreadable, truncated, not an image or too large.
        ArrayError: The array has another shape or type, or `max_pixels` is no positive number.
    """
    from PIL import Image

    if max_pixels is not None:
        check_count("max_pixels", max_pixels)
    if isinstance(source, np.ndarray):
        image = _from_array(source)
        check_size(image.size, "array", max_pixels)
        return _to_rgb(image, "array")
    if isinstance(source, Image.Image):
        name = source_name(source)
        check_size(source.size, name, max_pixels, source.format)
        return decoded_rgb(source, name, owned=False)
    if not isinstance(source, str | os.PathLike):
        raise ImageError(f"expected a path, a Pillow image or a uint8 array, got {type(source).__name__}")
    with opened_file(source, max_pixels) as image:
        return decoded_rgb(image, str(Path(source)), owned=True)


@contextmanager
def opened_file(path: str | os.PathLike[str] | io.BytesIO, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """An image file, of which only the header has been read; it is closed at the end of the block.

    Args:
        path: The file, or its bytes, which messages call "image".
        max_pixels: As in `open_image`.

    Raises:
        ImageError: As `open_image`.
    """
    from PIL import Image

    Image.init()
    data = path if isinstance(path, io.BytesIO) else None
    path = Path("image" if isinstance(path, io.BytesIO) else path)
    try:
        if data is None and path.is_dir():
            raise ImageError(f"{path}: is a folder, an image file was expected")
        if (path.stat().st_size if data is None else len(data.getbuffer())) == 0:
            raise ImageError(f"{path}: is empty (0 bytes)")
        with Image.open(data or path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            check_size(image.size, str(path), max_pixels, image.format)
            yield image
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except Image.UnidentifiedImageError as error:
        formats = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise ImageError(f"{path}: is not an image of a kind that is read ({formats})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"the limit of {2 * (Image.MAX_IMAGE_PIXELS or 0)} (twice PIL.Image.MAX_IMAGE_PIXELS)"
        raise ImageError(f"{path}: has more pixels than {limit}: make it smaller first") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except CfcamError:
        raise
    except UnicodeEncodeError as error:
        raise ImageError(f"{path}: cannot be read (no file can have this name)") from error
    except Exception as error:  # Pillow's readers raise whatever they like while they parse a header
        raise ImageError(f"{path}: is damaged ({one_line(error)})") from error


def check_size(
    size: tuple[int, int], name: str, max_pixels: int | None = None, form: str | None = None, cost: int = 1
) -> None:
    """Raise `ImageError` for a photo of `size` (width, height) beyond the limit.

    form: Pillow's name of its format. cost: how often a pixel counts, for the memory that it takes.
    """
    most, cost = max_pixels or _limit, 2 * cost if form in _COSTLY else cost
    count = size[0] * size[1] * cost
    if count > most:
        counted = f" (each counts {cost} times, for the memory that it takes)" if cost > 1 else ""
        raise ImageError(
            f"{name}: has {size[0]} x {size[1]} pixels{counted}, more than the limit of {most}: make it smaller, or "
            f"raise the limit with --max-pixels {count} (max_pixels in Python), which takes memory"
        )


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
    if isinstance(sources, str | os.PathLike):
        raise ImageError(
            f"find_images: expected a sequence of files, folders and patterns, got text: write [{str(sources)!r}]"
        )
    expect("find_images", "sources", sources, Iterable)
    for source in sources:
        expect("find_images", "sources", source, str, os.PathLike)
        for path in _expand(os.fspath(source)):
            found.setdefault(real_path(path), path)
    return list(found.values())


def real_path(path: str | os.PathLike[str]) -> str:
    """The path without links, by which files are told apart; as it is where the system does not take the name."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return os.fspath(path)


def _expand(source: str) -> list[Path]:
    path = Path(source)
    if _is(path.is_dir):
        try:
            inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        except OSError as error:
            raise ImageError(f"{path}: folder cannot be read ({error.strerror or error})") from error
        images = [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and _is(p.is_file)]
        images = images or [p for p in inside if p.suffix.lower() in ARRAY_SUFFIXES and _is(p.is_file)]
        if not images:
            raise ImageError(f"{path}: no images in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
        return images
    if _is(path.exists) or not glob.has_magic(source):
        return [path]
    spelled_out = bool(path.suffix) and not glob.has_magic(path.suffix)
    matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]
    images = [p for p in matches if _is(p.is_file) and (spelled_out or p.suffix.lower() in IMAGE_SUFFIXES)]
    if not images:
        raise ImageError(f"{source}: matches no image files")
    return images


def _is(asked: Callable[[], bool]) -> bool:
    """False for a name that the system does not take: too long, or with a zero in it."""
    try:
        return asked()
    except (OSError, ValueError):
        return False


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


def decoded_rgb(image: Image.Image, name: str, *, owned: bool) -> Image.Image:
    """The upright photo. owned: nobody else has the image, whose memory is freed as soon as it is not needed."""
    return upright(image, name, lambda: _converted(image, name, owned))


def _converted(image: Image.Image, name: str, owned: bool) -> Image.Image:
    photo = _to_rgb(image, name)
    if owned:
        image.close()
    return photo


def upright(image: Image.Image, name: str, convert: Callable[[], Image.Image] | None = None) -> Image.Image:
    """`image` decoded, then what `convert` makes of it, turned as its EXIF data say. Raises `ImageError`."""
    from PIL import Image

    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise whatever they like on damaged data
        raise ImageError(f"{name}: is truncated or damaged ({one_line(error)})") from error
    if min(image.size) < 1:
        raise ImageError(f"{name}: has no pixels ({image.width}x{image.height})")
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing about the pixels, which are fine
        turn = None
    if convert is None:
        return image if turn is None else image.transpose(Image.Transpose[turn])
    photo = convert()
    for key in _SAYS_ORIENTATION:
        photo.info.pop(key, None)
    return photo if turn is None else photo.transpose(Image.Transpose[turn])


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) that an image has when it is turned as its EXIF data say; nothing is decoded."""
    try:
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # damaged EXIF says nothing about the pixels, which are fine
        turned = False
    return (image.height, image.width) if turned else image.size


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A copy as RGB of 8 bits, also of an image that is RGB already, laid over white where it is transparent."""
    if min(image.size) < 1:
        raise ImageError(f"{name}: has no pixels ({image.width}x{image.height})")
    if image.mode in DEEP_MODES:
        return _in_bands(image, lambda band: _from_deep(band, name))
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        return _in_bands(image, _over_white)
    return image.convert("RGB")


def _in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """What `convert` makes of the image, in bands of rows, so that what it needs on the way stays small."""
    from PIL import Image

    whole = Image.new("RGB", image.size)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        whole.paste(convert(image.crop((0, top, image.width, bottom))), (0, top))
    return whole


def _from_deep(image: Image.Image, name: str) -> Image.Image:
    from PIL import Image

    levels, _ = to_levels(np.asarray(image), name)
    return Image.fromarray(np.rint(levels).astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")

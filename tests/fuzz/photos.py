"""Photos of all formats and modes, spoilt."""

from __future__ import annotations

import functools
import io
import random
import warnings
from pathlib import Path

import numpy as np
from cfcam.runtime import open_image
from cfcam.runtime.photos.preprocess import prepare
from PIL import Image
from tiny_model import VARIANTS

from .common import refused_cleanly, spoil_bytes

__all__ = ["photo"]

_FORMATS = {
    "jpg": ("JPEG", ["RGB", "L", "CMYK"]),
    "png": ("PNG", ["RGB", "RGBA", "LA", "P", "L", "1", "I;16"]),
    "webp": ("WEBP", ["RGB", "RGBA"]),
    "tif": ("TIFF", ["RGB", "RGBA", "L", "I;16", "F", "CMYK", "LAB"]),
    "gif": ("GIF", ["P", "L"]),
    "bmp": ("BMP", ["RGB", "L", "1"]),
    "ppm": ("PPM", ["RGB", "L", "1"]),
    "tga": ("TGA", ["RGB", "RGBA", "L"]),
    "jp2": ("JPEG2000", ["RGB", "RGBA", "L"]),
    "eps": ("EPS", ["RGB", "L"]),
    "ico": ("ICO", ["RGB"]),
    "npy": ("", ["RGB", "I;16", "L"]),
    "npz": ("", ["RGB", "L"]),
}


_INPUTS = [VARIANTS[name].spec.input for name in ("logits", "gray", "nhwc", "pad", "stretch")]


@functools.cache
def _whole(suffix: str, mode: str, orientation: int) -> bytes:
    kind, _ = _FORMATS[suffix]
    pixels = np.random.default_rng(0).integers(0, 256, (13, 17, 4), np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.merge("LAB", image.split()[:3])
    else:
        image = image.convert("RGB").convert(mode) if mode in ("P", "F", "CMYK", "1") else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    if suffix in ("npy", "npz"):
        (np.save if suffix == "npy" else np.savez)(data, np.asarray(image))
        return data.getvalue()
    image.save(data, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
    return data.getvalue()


def photo(chance: random.Random, folder: Path) -> None:
    """Opening it gives a photo as RGB, or a sentence."""
    suffix = chance.choice(list(_FORMATS))
    data = _whole(suffix, chance.choice(_FORMATS[suffix][1]), chance.choice([1, 1, 6, 3, 99]))
    if chance.random() < 0.95:
        data = spoil_bytes(data, chance)
    path = folder / f"x.{chance.choice([suffix, 'jpg', 'png'])}"
    path.write_bytes(data)
    with warnings.catch_warnings(), refused_cleanly():
        warnings.simplefilter("ignore")
        if chance.random() < 0.5:
            tensor = prepare(path, chance.choice(_INPUTS), 1_000_000).tensor
            assert np.isfinite(tensor).all()
            return
        opened = open_image(path, max_pixels=1_000_000)
        assert opened.mode == "RGB"
        assert 0 < opened.width * opened.height <= 1_000_000
        assert suffix not in ("eps", "ico") or opened.format is None

"""Photos that cost nothing: coloured patches, each file another picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["corrupt_photos", "lying_photo", "make_photos"]


def make_photos(folder: Path, count: int, *, seed: int = 0) -> list[Path]:
    """`count` PNG files of 72 x 64 pixels in `folder`, which is made; patches of 8 pixels in random colours."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        patches = np.random.default_rng([seed, number]).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        paths.append(folder / f"photo{number:03}.png")
        Image.fromarray(patches).resize((72, 64), Image.Resampling.BILINEAR).save(paths[-1])
    return paths


def corrupt_photos(folder: Path, count: int) -> list[Path]:
    """Files in `folder` that are called photos and are none: cut short, empty, or text."""
    (whole,) = make_photos(folder / "whole", 1, seed=99)
    data = whole.read_bytes()
    whole.unlink()
    whole.parent.rmdir()
    paths = []
    for number in range(count):
        paths.append(folder / f"corrupt{number}.png")
        paths[-1].write_bytes((data[: len(data) // 2], b"", b"not a photo")[number % 3])
    return paths


def lying_photo(path: Path) -> NDArray[np.uint8]:
    """Write a JPEG of random pixels that lies on its side, as its EXIF data say, and return them, uint8 (61, 90, 3)."""
    pixels = np.random.default_rng(0).integers(0, 256, (61, 90, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=turned)
    return pixels

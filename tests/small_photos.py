"""Photos that cost nothing: coloured patches, each file another picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["corrupt_photos", "make_photos"]


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

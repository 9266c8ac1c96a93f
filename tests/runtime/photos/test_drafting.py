"""Which part of a JPEG is decoded, and how far that is from all of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from cfcam.runtime.photos.drafting import draft
from cfcam.runtime.photos.preprocess import prepare
from PIL import Image
from tiny_model import VARIANTS

_SPEC = VARIANTS["logits"].spec.input  # the shorter side becomes 56


def _opened(size, orientation=1, form="JPEG"):
    y, x = np.mgrid[: size[1], : size[0]]
    values = np.stack([255 * x / size[0], 255 * y / size[1], 128 + 100 * np.sin(x / 40)], axis=-1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(data, form, exif=exif, quality=95)
    return Image.open(data)


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((896, 1200), 64, (112, 150)),  # an eighth has just the two times 56 that are needed
        ((890, 1200), 64, (223, 300)),  # 890 / 8 is too small
        ((896, 1200), 512, (448, 600)),  # for the picture
        ((200, 300), 64, (200, 300)),
        ((223, 300), 64, (223, 300)),
    ],
)
def test_never_less_than_twice_what_the_model_takes(size, longest, expected):
    image = _opened(size)
    draft(image, _SPEC, longest)
    assert image.size == expected


def test_a_photo_on_its_side_and_other_formats():
    image = _opened((1200, 896), orientation=6)
    draft(image, _SPEC, 64)
    assert image.size == (150, 112)
    prepared = prepare(image, _SPEC)
    assert prepared.photo.size == (112, 150)
    image = _opened((896, 1200), form="PNG")
    draft(image, _SPEC, 64)
    assert image.size == (896, 1200)


def test_what_the_model_gets_is_nearly_the_same():
    exact, fast = _opened((896, 1200)), _opened((896, 1200))
    draft(fast, _SPEC, 64)
    difference = prepare(exact, _SPEC).tensor - prepare(fast, _SPEC).tensor
    assert 0 < np.abs(difference).mean() < 0.01 * np.std(prepare(exact, _SPEC).tensor)

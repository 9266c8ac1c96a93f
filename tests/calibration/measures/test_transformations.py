"""Brightness, JPEG and shifts."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import pytest
from cfcam.calibration.measures import (
    Brightness,
    CentreGaussian,
    Jpeg,
    Shift,
    Transformed,
)
from cfcam.runtime.contract.spec import InputSpec, ResizeSpec
from cfcam.runtime.errors import ArrayError
from PIL import Image


def spec(color: Literal["rgb", "bgr", "gray"] = "rgb"):
    channels = 1 if color == "gray" else 3
    return InputSpec(
        name="image", layout="NCHW", height=16, width=16, dtype="float32", color=color, scale=1 / 255,
        mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.3, 0.25)[:channels], resize=ResizeSpec(mode="stretch"),
    )  # fmt: skip


def preprocessed(pixels, how):
    """Of uint8 (H, W, 3) RGB, by the definition."""
    planes = pixels[:, :, ::-1] if how.color == "bgr" else pixels
    return ((planes / 255 - np.array(how.mean)) / np.array(how.std)).transpose(2, 0, 1)[None].astype(np.float32)


def test_shift_moves_the_map_back(toy, photos, classes):
    """The toy's map moves with the picture, so nothing is lost but what left it."""
    maps = toy.explain(photos, classes)
    measure = Transformed(toy.explain, [Shift(1, 0), Shift(-1, 2), Shift(0, -3)])
    for name, values in measure.update(photos, classes, maps).items():
        np.testing.assert_allclose(values, 1, err_msg=name)
    centre = CentreGaussian()
    fixed = Transformed(centre, [Shift(3, 0)]).update(photos, classes, centre(photos, classes))
    assert fixed["shift_3_0"].max() < 0.99


def test_shift_by_hand():
    images = np.arange(6.0).reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(Shift(1, 0).apply(images)[0, 0], [[0, 0, 1], [3, 3, 4]])
    np.testing.assert_array_equal(Shift(-1, 1).apply(images)[0, 0], [[1, 2, 2], [1, 2, 2]])
    clean, changed = Shift(1, 0).align(images[:, 0], Shift(1, 0).apply(images)[:, 0])
    np.testing.assert_array_equal(clean, changed)
    assert clean.shape == (1, 2, 2)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_jpeg_and_brightness_act_on_the_pixels(color):
    how = spec(color)
    rows, columns = np.mgrid[:16, :16]
    pixels = np.stack([rows * 16, columns * 16, 255 - rows * 8], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=40)
    again = np.asarray(Image.open(buffer))
    assert (again != pixels).any()
    np.testing.assert_allclose(Jpeg(40, how).apply(preprocessed(pixels, how)), preprocessed(again, how), atol=1e-5)
    bright = np.minimum(pixels * 1.25, 255)
    np.testing.assert_allclose(
        Brightness(1.25, how).apply(preprocessed(pixels, how)), preprocessed(bright, how), atol=1e-5
    )


def test_jpeg_of_grey_images():
    how = spec("gray")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 1, 16, 16)).astype(np.float32)
    changed = Jpeg(90, how).apply(images)
    assert changed.shape == images.shape
    assert 0 < np.abs(changed - images).mean() < 0.3


def test_every_change_needs_a_name_of_its_own(toy):
    for changes in ([], [Shift(1, 0), Shift(1, 0)]):
        with pytest.raises(ArrayError, match="all of different names"):
            Transformed(toy.explain, changes)

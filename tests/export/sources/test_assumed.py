"""What metadata say, what is assumed, and what wins."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.sources.assumed import settle
from cfcam.export.sources.onnx_input import ImageInput
from cfcam.export.sources.preprocessing import Preprocessing, preset


def _image(channels: int = 3, dtype: str = "float32", **metadata: str) -> ImageInput:
    said = {f"Image.{name}": value for name, value in metadata.items()}
    return ImageInput("x", "NCHW", 8, 8, channels, dtype, None, said)  # type: ignore[arg-type]


def _x(preprocessing: Preprocessing, image: ImageInput, p: float) -> float:
    spec = preprocessing.input_spec("x", 8, 8, dtype=image.dtype, channels=image.channels)
    return (p * spec.scale - spec.mean[0]) / spec.std[0]


@pytest.mark.parametrize(
    ("says", "black", "white"),
    [
        ("NominalRange_0_255", 0, 255),
        ("Normalized_0_1", 0, 1),
        ("Normalized_1_1", -1, 1),
        ("NominalRange_16_235", 16, 235),
    ],
)
def test_a_stated_range_wins_over_a_preset_and_an_option_over_both(says, black, white):
    image = _image(NominalPixelRange=says)
    found, (note,) = settle(preset("torchvision"), image)
    np.testing.assert_allclose([_x(found, image, 0), _x(found, image, 255)], [black, white], atol=1e-12)
    assert says in note
    chosen = preset("torchvision").override(scale=1 / 255)
    found, (note,) = settle(chosen, image)
    assert found == chosen
    assert "stated win over it" in note


def test_the_order_of_channels():
    image = _image(BitmapPixelFormat="Bgr8")
    found, (note,) = settle(preset("torchvision"), image)
    assert (found.color, found.input_spec("x", 8, 8).mean) == ("bgr", (0.406, 0.456, 0.485))
    assert "Bgr8" in note
    found, (note,) = settle(preset("torchvision").override(color="rgb"), image)
    assert found.color == "rgb"
    assert "wins" in note
    found, notes = settle(preset("tf"), _image(1, BitmapPixelFormat="Bgr8"))
    assert any("not followed" in note for note in notes)
    assert settle(preset("tf"), _image(4, BitmapPixelFormat="Rgba8"))[0].color == "channels"


def test_linear_light_is_refused_until_the_pixels_are_stated():
    image = _image(ColorSpaceGamma="Linear")
    with pytest.raises(ExportError, match="linear light"):
        settle(preset("torchvision"), image)
    stated = preset("torchvision").override(scale=1 / 255, mean=(0.0,), std=(1.0,))  # the advice
    assert "as stored" in settle(stated, image)[1][0]
    assert settle(preset("torchvision"), _image(ColorSpaceGamma="SRGB")) == (preset("torchvision"), [])


@pytest.mark.parametrize(
    ("channels", "dtype", "white"), [(4, "float32", 1), (1, "float32", 1), (3, "uint8", 255), (3, "int8", 127)]
)
def test_what_no_preset_is_made_for_is_assumed_and_said(channels, dtype, white):
    image = _image(channels, dtype)
    found, (note,) = settle(preset("torchvision"), image)
    assert _x(found, image, 255) == pytest.approx(white)
    assert "was assumed; --scale, --mean and --std say otherwise" in note
    own = Preprocessing(scale=1.0, mean=(0.0,), std=(1.0,))
    assert settle(own, image) == (own, [])


def test_an_ordinary_input_keeps_the_preset():
    assert settle(preset("tf"), _image()) == (preset("tf"), [])

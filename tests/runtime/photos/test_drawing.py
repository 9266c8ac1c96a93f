"""Colours that can be read, words that fit, panels that line up."""

from __future__ import annotations

import io

import numpy as np
import pytest
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.photos.drawing import caption, colour_map, heat_picture, layer_png, scale_bar, side_by_side
from PIL import Image


def _lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours."""
    x = rgb / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_more_always_looks_lighter_and_by_even_steps():
    lightness = _lightness(colour_map(np.linspace(0, 1, 256)))
    assert lightness[0] < 12
    assert lightness[-1] > 88
    tenths = np.diff(lightness[::15])
    assert tenths.min() > 3
    assert tenths.max() < 8


def test_colours_at_the_ends():
    assert colour_map(np.array([[0.0, 1.0]])).shape == (1, 2, 3)
    ends = colour_map(np.array([0.0, 1.0]))
    assert np.array_equal(colour_map(np.array([-3.0, 7.0])), ends)
    assert np.array_equal(colour_map(np.array([np.nan])), ends[:1])


def test_a_layer_holds_the_map_in_its_indices_and_its_look_in_its_palette():
    heat = np.array([[0.0, 0.5, 1.0], [0.25, 0.75, 0.1]], np.float32)
    picture = Image.open(io.BytesIO(layer_png(heat)))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), np.floor(heat * 255 + 0.5))
    shown = np.array(picture.convert("RGBA"))
    np.testing.assert_array_equal(shown[..., :3], colour_map(heat))
    opacity = shown[..., 3].ravel()[heat.argsort(axis=None)]
    assert opacity[-1] == 255
    assert 0 < opacity[0] < 64
    assert (np.diff(opacity.astype(int)) > 0).all()


def test_heat_picture_checks_and_keeps_its_inputs():
    photo = Image.new("RGB", (30, 20), (200, 10, 10))
    heat = np.zeros((20, 30), np.float32)
    heat[:, :5] = np.nan
    before = heat.copy()
    assert heat_picture(photo, heat).size == (30, 20)
    assert np.array_equal(heat, before, equal_nan=True)
    with pytest.raises(ArrayError, match=r"expected shape \(20, 30\)"):
        heat_picture(photo, heat.T)


def _in_floats(photo: Image.Image, heat: np.ndarray) -> np.ndarray:
    """What `heat_picture` means, pixel by pixel in float64."""
    base = np.asarray(photo, np.float64)
    grey = np.asarray(photo.convert("L"), np.float64)[..., None]
    opacity = 0.15 + 0.5 * heat[..., None].astype(np.float64)
    return (grey + (base - grey) * 0.4) * (1 - opacity) + colour_map(heat) * opacity


def test_heat_picture_is_the_blend_of_floats_within_two_levels():
    random = np.random.default_rng(0)
    photo = Image.fromarray(random.integers(0, 256, (64, 90, 3), np.uint8))
    heat = random.random((64, 90), np.float32)
    heat[0], heat[1] = 0, 1
    assert np.abs(np.asarray(heat_picture(photo, heat)) - _in_floats(photo, heat)).max() <= 2
    beyond = np.where(heat == 0, -3, np.where(heat == 1, 7, heat)).astype(np.float32)
    assert np.array_equal(np.asarray(heat_picture(photo, beyond)), np.asarray(heat_picture(photo, heat)))


def test_what_was_seen_looks_the_same_beside_what_was_not():
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8))
    heat = np.full((20, 30), 0.5, np.float32)
    whole = np.asarray(heat_picture(photo, heat))
    heat[:, :5] = np.nan
    part = np.asarray(heat_picture(photo, heat))
    assert np.array_equal(part[:, 5:], whole[:, 5:])
    assert (part[:, 4] == 255).all()  # the line
    red, green, blue = (part[:, :4, i].astype(int) for i in range(3))
    assert (red == green).all()
    assert (green == blue).all()
    assert red.min() >= 85  # pale: 125 under a stripe of 0.72


def test_scale_bar_runs_from_dark_to_light():
    bar = np.asarray(scale_bar(300, 14))
    assert bar.shape[1] == 300
    assert _lightness(bar[2]).argmin() < 10
    assert (bar[14:] < 120).any()  # the words


@pytest.mark.parametrize("width", [1, 40, 320, 1000])
def test_captions_fit_whatever_the_width(width):
    picture = Image.new("RGB", (width, 50), (0, 0, 255))
    page = caption(picture, "a label that goes on and on " * 10, "class 3", value="87.3 %", bar=True)
    assert page.width == max(width, 320)
    pixels = np.asarray(page)
    assert (pixels[:, -3:] == 255).all() or width >= 320  # nothing is cut off at the edge
    head = pixels[: np.flatnonzero((pixels == (0, 0, 255)).all(axis=2).any(axis=1))[0]]
    assert (head < 100).any()
    blue = (pixels == (0, 0, 255)).all(axis=2)
    assert blue.sum() == width * 50  # the picture is whole


def test_value_is_shown_beside_a_long_title():
    picture = Image.new("RGB", (320, 10))
    long = "x" * 500
    with_value, without = (np.asarray(caption(picture, long, value=v)) for v in ("87.3 %", ""))
    assert not np.array_equal(with_value[:, 240:], without[:, 240:])


def test_side_by_side():
    cells = [[Image.new("RGB", (100, 50), "red"), Image.new("RGB", (40, 80), "blue")], [Image.new("RGB", (9, 9))]]
    page = side_by_side(cells, columns=["a", "b"], rows=["one", "two"], title="panel", cell_width=200)
    pixels = np.asarray(page)
    assert (pixels == (255, 0, 0)).all(axis=2).sum() == 200 * 100
    assert (pixels == (0, 0, 255)).all(axis=2).sum() == 200 * 400
    assert side_by_side(cells, cell_width=200).height < page.height
    with pytest.raises(ArrayError, match="at least one image"):
        side_by_side([[]])
    with pytest.raises(ArrayError, match="2 column titles and 2 row titles"):
        side_by_side(cells, columns=["a"])


def test_the_lines_of_the_hatching_go_on_around_what_was_seen():
    photo = Image.new("RGB", (120, 90), (100, 100, 100))
    heat = np.full((90, 120), np.nan, np.float32)
    nothing = np.asarray(heat_picture(photo, heat))
    heat[30:50, 40:70] = 0.3
    part = np.asarray(heat_picture(photo, heat))
    around = np.ones((90, 120), bool)
    around[29:51, 39:71] = False
    assert np.array_equal(part[around], nothing[around])
    rows, columns = np.indices((90, 120))
    light, dark = 100 * 0.45 + 125, (100 * 0.45 + 125) * 0.72
    expected = np.where((rows + columns) % 8 < 1.2, dark, light)
    assert np.abs(nothing[..., 0] - expected).max() <= 1
    line = part[29:51, 39:71]
    assert (line[0, 1:-1] == 255).all()
    assert (line[-1, 1:-1] == 255).all()
    assert (line[1:-1, 0] == 255).all()
    assert (line[1:-1, -1] == 255).all()
    assert (part[30:50, 40:70] != 255).all()
    heat[40, 50] = np.nan
    with pytest.raises(ArrayError, match="one rectangle"):
        heat_picture(photo, heat)

"""Presets, overrides and the parsing of what users type."""

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.sources.preprocessing import (
    PRESETS,
    Preprocessing,
    parse_input_size,
    parse_numbers,
    parse_resize,
    preset,
)


def tensor_value(spec, pixel):
    """x of one 8-bit pixel (in the model's channel order) by the contract's formula."""
    return (np.asarray(pixel) * spec.scale - np.asarray(spec.mean)) / np.asarray(spec.std)


def test_torchvision_preset_is_the_usual_one():
    spec = preset("torchvision").input_spec("image", 224, 224)
    assert (spec.resize.mode, spec.resize.size, spec.resize.crop) == ("shorter", 256, "center")
    assert spec.resize.interpolation == "bilinear"
    # ToTensor and Normalize, by hand
    np.testing.assert_allclose(
        tensor_value(spec, (255, 0, 127.5)), [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.5 - 0.406) / 0.225], rtol=1e-12
    )


def test_tf_preset_spans_minus_one_to_one():
    spec = preset("tf").input_spec("image", 299, 299)
    np.testing.assert_allclose(tensor_value(spec, (0, 127.5, 255)), [-1, 0, 1], atol=1e-12)
    assert spec.resize.size == 342


def test_lite_preset():
    spec = preset("lite").input_spec("image", 240, 240)
    np.testing.assert_allclose(tensor_value(spec, (127, 255, 0)), [0, 1, -127 / 128])
    assert (spec.resize.mode, spec.resize.interpolation, spec.resize.crop) == ("stretch", "bicubic", "none")


def test_shorter_side_covers_the_longer_input_side():
    assert preset("torchvision").override(mode="shorter").input_spec("image", 112, 448).resize.size == 512


@pytest.mark.parametrize("name", ["torchvision", "tf"])
def test_nothing_is_cropped_for_an_input_that_is_not_square_unless_it_is_asked_for(name):
    square = preset(name).input_spec("image", 224, 224).resize
    assert (square.mode, square.size, square.crop) == ("shorter", 256, "center")
    wide = preset(name).input_spec("image", 112, 448).resize
    assert (wide.mode, wide.size, wide.crop) == ("fit", None, "none")
    for asked in ({"crop": "center"}, {"mode": "shorter"}, {"shorter": 512}):
        cropped = preset(name).override(**asked).input_spec("image", 112, 448).resize
        assert (cropped.mode, cropped.size, cropped.crop) == ("shorter", 512, "center")


def test_numbers_for_every_channel():
    five = Preprocessing(scale=1.0, mean=(1.0, 2.0, 3.0, 4.0, 5.0), std=(2.0,))
    spec = five.input_spec("image", 8, 8)
    assert (spec.color, spec.mean, spec.std) == ("channels", (1, 2, 3, 4, 5), (2,) * 5)
    one = Preprocessing(scale=1.0, mean=(1.0,), std=(2.0,))
    assert [one.input_spec("image", 8, 8, channels=n).color for n in (1, 3, 4)] == ["gray", "rgb", "channels"]
    assert one.override(color="channels").input_spec("image", 8, 8, channels=1).color == "channels"
    with pytest.raises(ExportError, match="takes 4 channels, but mean and std have 5 numbers"):
        five.input_spec("image", 8, 8, channels=4)
    with pytest.raises(ExportError, match="color: 'bgr' is for 3 channels, the model takes 4"):
        one.override(color="bgr").input_spec("image", 8, 8, channels=4)


@pytest.mark.parametrize(("dtype", "mean"), [("uint8", 0.0), ("int8", 128.0)])
def test_values_that_an_integer_input_cannot_hold_are_refused(dtype, mean):
    pixels = Preprocessing(scale=1.0, mean=(mean,), std=(1.0,))
    assert pixels.input_spec("image", 8, 8, dtype=dtype).mean == (mean,) * 3
    for wrong in (preset("torchvision"), pixels.override(mean=(64.0,)), pixels.override(scale=1 / 255)):
        with pytest.raises(ExportError, match=f"the input is {dtype}, but"):
            wrong.input_spec("image", 8, 8, dtype=dtype)


def test_bgr_reverses_what_is_given_as_rgb():
    spec = preset("torchvision").override(color="bgr").input_spec("image", 224, 224)
    assert spec.color == "bgr"
    assert spec.mean == (0.406, 0.456, 0.485)
    assert spec.std == (0.225, 0.224, 0.229)


def test_override_changes_only_what_is_given():
    base = preset("torchvision")
    assert base.override(scale=None, mean=None) == base
    changed = base.override(std=(1.0, 2.0, 3.0), interpolation="nearest")
    assert (changed.std, changed.interpolation, changed.mean) == ((1.0, 2.0, 3.0), "nearest", base.mean)


@pytest.mark.parametrize("mode", ["stretch", "pad", "fit"])
def test_modes_that_fill_the_input_need_no_crop(mode):
    spec = preset("torchvision").override(mode=mode).input_spec("image", 224, 224)
    assert (spec.resize.mode, spec.resize.size, spec.resize.crop) == (mode, None, "none")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"std": (1.0, 0.0, 1.0)}, "std: must not be zero"),
        ({"scale": 0.0}, "scale: must not be zero"),
        ({"mean": (0.0, float("nan"), 0.0)}, "finite"),
        ({"mean": (0.0, 0.0)}, "mean has 2 numbers and std 3"),
        ({"photo_range": (9.0, 1.0)}, "photo_range"),
        ({"crop": "none", "mode": "shorter"}, "needs resize 'stretch' or 'pad'"),
        ({"crop": "none"}, "needs resize 'stretch' or 'pad'"),
        ({"color": "cmyk"}, "color: expected one of rgb, bgr"),
        ({"interpolation": "cubic"}, "interpolation: expected one of"),
    ],
)
def test_impossible_values_are_refused(changes, words):
    with pytest.raises(ExportError, match=words):
        preset("torchvision").override(**changes)


def test_shorter_side_below_the_crop_is_refused():
    with pytest.raises(ExportError, match=r"200 pixels is too small to cut 224x224"):
        preset("torchvision").override(mode="shorter", shorter=200).input_spec("image", 224, 224)


def test_unknown_preset():
    with pytest.raises(ExportError, match="expected one of torchvision, tf, lite, got 'caffe'"):
        preset("caffe")


def test_presets_raise_no_doubts():
    assert [p.doubts() for p in PRESETS.values()] == [[], [], []]


def test_doubts_about_mixed_units():
    pixels = preset("torchvision").override(mean=(123.7, 116.3, 103.5))
    assert "outside 0..1" in pixels.doubts()[0]
    fractions = preset("torchvision").override(scale=1.0)
    assert "scale 1/255" in fractions.doubts()[0]
    assert Preprocessing(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3).doubts() == []


@pytest.mark.parametrize(
    ("text", "count", "values"),
    [
        ("0.485,0.456,0.406", 3, (0.485, 0.456, 0.406)),
        (" 127 ", None, (127.0,)),
        ("1,2,3,4", None, (1.0, 2.0, 3.0, 4.0)),
        ("1/255", 1, (1 / 255,)),
        ("1/127.5", 1, (1 / 127.5,)),
        ("-1, 1/2, 1e-3", 3, (-1.0, 0.5, 0.001)),
    ],
)
def test_parse_numbers(text, count, values):
    assert parse_numbers(text, "--mean", count) == pytest.approx(values, rel=1e-15)


@pytest.mark.parametrize("text", ["", "a,b,c", "1,2", "1,2,3,4", "1", "1/0", "inf", "1,,2", "1e999"])
def test_parse_numbers_refuses(text):
    with pytest.raises(ExportError, match="--mean: expected numbers"):
        parse_numbers(text, "--mean", 3)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("shorter:256", {"mode": "shorter", "shorter": 256}),
        ("256", {"mode": "shorter", "shorter": 256}),
        ("stretch", {"mode": "stretch"}),
        ("Pad", {"mode": "pad"}),
        ("fit", {"mode": "fit"}),
    ],
)
def test_parse_resize(text, fields):
    assert parse_resize(text) == fields


@pytest.mark.parametrize("text", ["", "longer:3", "shorter:", "shorter:0", "-5", "256x256"])
def test_parse_resize_refuses(text):
    with pytest.raises(ExportError, match="resize: expected shorter:PIXELS"):
        parse_resize(text)


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), (160, (160, 160)), ("224x320", (224, 320)), ((3, 5), (3, 5))]
)
def test_parse_input_size(text, size):
    assert parse_input_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "0", "20000", "224x", "1.5", (1, 2, 3), -4])
def test_parse_input_size_refuses(text):
    with pytest.raises(ExportError, match="input size"):
        parse_input_size(text)

"""Photo -> tensor, by the formula and by the geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cfcam.runtime.contract.spec import InputSpec, ResizeSpec
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.photos.frame import Frame
from cfcam.runtime.photos.preprocess import as_input, check_tensor, prepare, tensor_to_image
from PIL import Image
from tiny_model import VARIANTS

_SPEC = InputSpec(
    name="image",
    height=20,
    width=30,
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    resize=ResizeSpec(mode="stretch", crop="none"),
)


def _photo(width: int = 30, height: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8))


def _by_formula(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    return ((pixels.astype(np.float64) * spec.scale - spec.mean) / spec.std).astype(np.float32)


def test_formula_and_layout():
    pixels = np.asarray(_photo())
    wanted = _by_formula(pixels, _SPEC)
    tensor = prepare(_photo(), _SPEC).tensor
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert np.array_equal(tensor, wanted.transpose(2, 0, 1))
    assert np.array_equal(prepare(_photo(), replace(_SPEC, layout="NHWC")).tensor, wanted)
    half = prepare(_photo(), replace(_SPEC, dtype="float16")).tensor
    assert np.array_equal(half, wanted.transpose(2, 0, 1).astype(np.float16))


def test_colour_order():
    pixels = np.asarray(_photo())
    spec = replace(_SPEC, color="bgr")  # mean and std are in the model's order: blue first
    assert np.array_equal(prepare(_photo(), spec).tensor.transpose(1, 2, 0), _by_formula(pixels[:, :, ::-1], spec))
    grey = replace(_SPEC, color="gray", mean=(0.5,), std=(0.25,))
    luma = np.asarray(_photo().convert("L"))[:, :, None]
    assert np.array_equal(prepare(_photo(), grey).tensor.transpose(1, 2, 0), _by_formula(luma, grey))


def test_padding_is_the_mean_colour_and_centred():
    spec = replace(_SPEC, resize=ResizeSpec(mode="pad", crop="none"))
    prepared = prepare(Image.new("RGB", (20, 20), "white"), spec)
    assert prepared.frame.offset == (-5, 0)
    assert (prepared.tensor[:, :, :5] == 0).all()
    assert (prepared.tensor[:, :, 25:] == 0).all()
    assert (prepared.tensor[:, :, 5:25] > 1).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolation_is_pillows(interpolation):
    resize = ResizeSpec(mode="stretch", crop="none", interpolation=interpolation)
    wanted = np.asarray(_photo(61, 47).resize((30, 20), Image.Resampling[interpolation.upper()]))
    got = prepare(_photo(61, 47), replace(_SPEC, resize=resize)).tensor
    assert np.array_equal(got.transpose(1, 2, 0), _by_formula(wanted, _SPEC))


def test_crop_takes_the_middle():
    resize = ResizeSpec(mode="shorter", size=32)
    photo = _photo(100, 70)
    whole = photo.resize((45, 32), Image.Resampling.BILINEAR)  # int(32 * 100 / 70) = 45
    wanted = np.asarray(whole)[6:26, 8:38]  # round(12 / 2), round(15 / 2) = 8
    prepared = prepare(photo, replace(_SPEC, resize=resize))
    assert prepared.frame.offset == (8, 6)
    assert np.array_equal(prepared.tensor.transpose(1, 2, 0), _by_formula(wanted, _SPEC))


def test_an_extreme_strip_is_never_scaled_as_a_whole(monkeypatch):
    import cfcam.runtime.photos.preprocess as module

    resize = ResizeSpec(mode="shorter", size=32)
    spec = replace(_SPEC, resize=resize)
    photo = _photo(300, 90)
    whole = prepare(photo, spec).tensor
    monkeypatch.setattr(module, "_WHOLE_PIXELS", 0)
    part = prepare(photo, spec).tensor
    levels = np.abs(part - whole) * np.array(spec.std, np.float32)[:, None, None] * 255
    assert levels.max() < 1.5  # one 8-bit step at most
    monkeypatch.undo()
    strip = prepare(Image.new("RGB", (1, 60000), (255, 0, 0)), spec)  # would be 61 million pixels tall in all
    assert strip.frame.resized == (32, 1920000)
    assert strip.tensor[0].min() > 2


def test_one_pixel_photo():
    tensor = prepare(Image.new("RGB", (1, 1), (255, 0, 0)), _SPEC).tensor
    assert np.ptp(tensor, axis=(1, 2)).max() == 0


@pytest.mark.parametrize("name", ["logits", "nhwc", "bgr", "gray"])
def test_a_tensor_shows_its_photo_again(name):
    spec = replace(VARIANTS[name].spec.input, resize=ResizeSpec(mode="stretch", crop="none"))
    photo = _photo(spec.width, spec.height)
    seen = np.asarray(photo if name != "gray" else photo.convert("L").convert("RGB"))
    assert np.array_equal(np.asarray(tensor_to_image(prepare(photo, spec).tensor, spec)), seen)


def test_ready_tensors():
    tensor = np.zeros((3, 20, 30), np.float32)
    assert check_tensor(tensor, _SPEC).shape == (1, 3, 20, 30)
    assert check_tensor(np.zeros((4, 3, 20, 30), np.float32), _SPEC).shape == (4, 3, 20, 30)
    assert check_tensor(tensor, replace(_SPEC, dtype="float16")).dtype == np.float16
    nhwc = replace(_SPEC, layout="NHWC")
    assert check_tensor(tensor.transpose(1, 2, 0), nhwc).shape == (1, 20, 30, 3)
    with pytest.raises(ArrayError, match="expected a float32 tensor, got float64"):
        check_tensor(tensor.astype(np.float64), _SPEC)
    for bad in (tensor.transpose(1, 2, 0), tensor[0], tensor[None, None], np.zeros((3, 224, 224), np.float32)):
        with pytest.raises(ArrayError, match=r"expected a tensor of shape \(3, 20, 30\)"):
            check_tensor(bad, _SPEC)
    for value in (np.nan, np.inf):
        broken = tensor.copy()
        broken[1, 2, 3] = value
        with pytest.raises(ArrayError, match="NaN or infinity"):
            check_tensor(broken, _SPEC)


def test_what_is_known_about_a_prepared_photo(tmp_path):
    path = tmp_path / "photo.png"
    _photo().save(path)
    made = prepare(path, _SPEC)
    assert made.source == str(path)
    assert made.photo.size == _photo().size
    assert list(made.times_ms) == ["decode", "preprocess"]
    assert min(made.times_ms.values()) > 0
    again = prepare(made.photo, _SPEC)
    assert again.source == "image"
    assert np.array_equal(again.tensor, made.tensor)


def test_a_ready_tensor_is_prepared_already():
    tensor = prepare(_photo(), _SPEC).tensor
    made = prepare(tensor, _SPEC)
    assert np.array_equal(made.tensor, tensor)
    assert (made.source, list(made.times_ms)) == ("array", ["preprocess"])
    assert made.photo.size == (_SPEC.width, _SPEC.height)
    assert made.frame == Frame.whole(_SPEC.width, _SPEC.height)
    with pytest.raises(ArrayError, match="expected one tensor per image"):
        prepare(np.stack([tensor, tensor]), _SPEC)
    with pytest.raises(ArrayError, match="at least one image"):
        check_tensor(tensor[None][:0], _SPEC)


@pytest.mark.parametrize("size", [(36, 20), (60, 20), (20, 60)])
def test_a_marked_pixel_is_found_again_where_fit_put_it(size):
    """Photos that are stretched, padded above and below, and padded left and right."""
    spec = replace(_SPEC, resize=ResizeSpec(mode="fit", crop="none"))
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[size[1] - 5 : size[1] - 2, 2:5] = 255
    prepared = prepare(pixels, spec)
    placed = prepared.frame.place(prepared.tensor[0])  # the tensor's own brightness, as a map
    assert placed.shape == pixels.shape[:2]
    y, x = np.unravel_index(np.nanargmax(placed), placed.shape)
    assert (abs(x - 3) <= 1, abs(y - (size[1] - 4)) <= 1) == (True, True)
    assert not np.isnan(placed).any()


@pytest.mark.parametrize(("dtype", "mean"), [("uint8", 0.0), ("int8", 128.0)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_integer_inputs(dtype, mean, layout):
    spec = replace(_SPEC, dtype=dtype, layout=layout, scale=1.0, mean=(mean,) * 3, std=(1.0,) * 3)
    made = prepare(_photo(), spec)
    wanted = (np.asarray(_photo()).astype(int) - int(mean)).astype(dtype)
    wanted = wanted if layout == "NHWC" else wanted.transpose(2, 0, 1)
    assert made.tensor.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(made.tensor, wanted)
    again = prepare(made.tensor, spec)  # is ready, although a photo could look like that
    np.testing.assert_array_equal(again.tensor, made.tensor)
    np.testing.assert_array_equal(np.asarray(again.photo), np.asarray(_photo()))
    with pytest.raises(ArrayError, match=f"expected a {dtype} tensor, got float32"):
        check_tensor(made.tensor.astype(np.float32), spec)


def test_as_input_rounds_and_cuts_integers_only():
    values = np.array([-300.0, -1.5, 0.6, 254.6, 300.0])
    assert as_input(values, "uint8").tolist() == [0, 0, 1, 255, 255]
    assert as_input(values, "int8").tolist() == [-128, -2, 1, 127, 127]
    assert as_input(values, "float32").tolist() == np.float32(values).tolist()

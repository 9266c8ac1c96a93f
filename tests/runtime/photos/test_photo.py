"""Photos of any number of channels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from cfcam.runtime.contract.spec import InputSpec, ResizeSpec
from cfcam.runtime.errors import ArrayError, ImageError, PhotoWarning
from cfcam.runtime.photos.photo import check_shown, open_photo
from cfcam.runtime.photos.preprocess import prepare
from PIL import Image
from tiny_model import VARIANTS


def _spec(channels: int, **changes) -> InputSpec:
    """Of an input 6x8 (height x width), where x is p minus the number of the channel (from 0)."""
    fields = {"color": "channels", "mean": tuple(map(float, range(channels))), "std": (1.0,) * channels} | changes
    stretch = ResizeSpec(mode="stretch", crop="none")
    return InputSpec(name="x", height=6, width=8, scale=1.0, resize=stretch, **fields)


def _pixels(channels: int, dtype: type[np.integer] = np.uint8) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (6, 8, channels), dtype)


def _wanted(levels: np.ndarray) -> np.ndarray:
    return levels.transpose(2, 0, 1) - np.arange(levels.shape[2])[:, None, None]


@pytest.mark.parametrize("channels", [1, 2, 4, 11])
@pytest.mark.parametrize("how", ["array", "npy", "npz", "first", "pages"])
def test_every_channel_arrives_as_it_is(channels, how, tmp_path):
    pixels = _pixels(channels)
    source = tmp_path / f"x.{'tif' if how == 'pages' else how.replace('first', 'npy')}"
    if how == "npz":
        np.savez(source, other=np.zeros(3), image=pixels)
    elif how == "pages":
        first, *others = (Image.fromarray(pixels[:, :, i]) for i in range(channels))
        first.save(source, save_all=True, append_images=others)
    elif how != "array":
        np.save(source, pixels.transpose(2, 0, 1) if how == "first" else pixels)
    prepared = prepare(pixels if how == "array" else source, _spec(channels))
    np.testing.assert_array_equal(prepared.tensor, _wanted(pixels))
    shown = pixels[:, :, :3] if channels > 2 else np.repeat(pixels[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(prepared.photo), shown)


@pytest.mark.parametrize("channels", [1, 4])
def test_sixteen_bits_keep_their_fractions(channels, tmp_path):
    pixels = _pixels(channels, np.uint16)
    np.save(tmp_path / "x.npy", pixels)
    np.testing.assert_allclose(prepare(tmp_path / "x.npy", _spec(channels)).tensor, _wanted(pixels / 257), atol=1e-4)


def test_the_fourth_channel_of_a_png_is_no_transparency(tmp_path):
    pixels = _pixels(4)
    pixels[..., 3] = 0  # transparent all over, or a depth of 0
    Image.fromarray(pixels).save(tmp_path / "x.png")
    spec = _spec(4)
    np.testing.assert_array_equal(prepare(tmp_path / "x.png", spec).tensor, _wanted(pixels))
    large = Image.fromarray(np.kron(pixels, np.ones((5, 5, 1), np.uint8)))  # resizing does not weight by it either
    tensor = prepare(large, spec).tensor
    for i in range(4):
        band = large.getchannel(i).resize((8, 6), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(tensor[i], np.asarray(band) - np.float32(i))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_twelve_bit_photo_with_its_range_is_the_photo_of_8_bits(tmp_path, suffix):
    eight = _pixels(1)[:, :, 0]
    Image.fromarray(eight).save(tmp_path / f"8.{suffix}")
    Image.fromarray(eight.astype(np.uint16) * 16).save(tmp_path / f"12.{suffix}")
    for color, mean in (("gray", (9.0,)), ("rgb", (1.0, 2.0, 3.0))):
        spec = _spec(len(mean), color=color, mean=mean)
        stated = _spec(len(mean), color=color, mean=mean, photo_range=(0.0, 255 * 16))
        tensor = prepare(tmp_path / f"12.{suffix}", stated).tensor
        np.testing.assert_allclose(tensor, prepare(tmp_path / f"8.{suffix}", spec).tensor, atol=1e-4)
        with pytest.warns(PhotoWarning, match="photo-range"):
            assert prepare(tmp_path / f"12.{suffix}", spec).notes


def _deep_png(path, values: np.ndarray) -> None:
    """16-bit colour, which Pillow cannot write. values: uint16 (H, W, 3)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_sixteen_bit_colour_is_not_taken_for_bright_when_it_is_not(tmp_path):
    pixels = _pixels(3, np.uint16)
    _deep_png(tmp_path / "full.png", pixels)
    _deep_png(tmp_path / "12.png", pixels // 16)
    assert open_photo(tmp_path / "full.png", _spec(3, color="rgb")).notes == ()
    assert "photo-range" in open_photo(tmp_path / "12.png", _spec(3, color="rgb")).notes[0]
    with pytest.raises(ImageError, match="npy"):
        open_photo(tmp_path / "12.png", _spec(3, color="rgb", photo_range=(0.0, 4095.0)))
    np.save(tmp_path / "12.npy", pixels // 16)  # the advice
    tensor = prepare(tmp_path / "12.npy", _spec(3, color="rgb", photo_range=(0.0, 4095.0))).tensor
    np.testing.assert_allclose(tensor, _wanted((pixels // 16) * (255 / 4095)), atol=1e-4)


def test_grey_of_colours_is_pillows_luma_and_colours_of_grey_are_equal(tmp_path):
    colours, grey = _pixels(3, np.uint16), _pixels(1, np.uint16)
    np.save(tmp_path / "colours.npy", colours)
    np.save(tmp_path / "grey.npy", grey)
    gray, bgr = _spec(1, color="gray"), _spec(3, color="bgr")
    luma = (colours / 257) @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(prepare(tmp_path / "colours.npy", gray).tensor[0], luma, atol=1e-4)
    np.testing.assert_allclose(prepare(tmp_path / "grey.npy", gray).tensor[0], grey[..., 0] / 257, atol=1e-4)
    three = np.repeat(grey / 257, 3, axis=2)
    np.testing.assert_allclose(prepare(tmp_path / "grey.npy", bgr).tensor, _wanted(three), atol=1e-4)
    reverse = (colours / 257)[:, :, ::-1]
    np.testing.assert_allclose(prepare(tmp_path / "colours.npy", bgr).tensor, _wanted(reverse), atol=1e-4)


@pytest.mark.parametrize(("have", "take"), [(3, 4), (5, 4), (4, 5)])
def test_another_number_of_channels_is_refused(have, take, tmp_path):
    np.save(tmp_path / "x.npy", _pixels(have))
    with pytest.raises(ImageError, match=rf"x\.npy: has {have} channels, but the model takes {take}: give"):
        open_photo(tmp_path / "x.npy", _spec(take))
    with pytest.raises(ArrayError, match=f"has {have} channels"):
        open_photo(_pixels(have), _spec(take))


def test_four_bands_are_not_taken_for_transparency_by_a_model_of_colours(tmp_path):
    np.save(tmp_path / "x.npy", _pixels(4))
    with pytest.raises(ImageError, match=r"has 4 channels, but the model takes 3"):
        open_photo(tmp_path / "x.npy", _spec(3, color="rgb"))


def test_a_colour_photo_has_no_fourth_channel_even_if_its_file_has(tmp_path):
    Image.new("CMYK", (8, 6)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="has 3 channels, but the model takes 4"):
        open_photo(tmp_path / "x.tif", _spec(4))


def test_pages_and_archives_that_are_no_photo_are_refused(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "x.tif", save_all=True, append_images=[Image.new("L", (4, 4))])
    with pytest.raises(ImageError, match="page 2"):
        open_photo(tmp_path / "x.tif", _spec(2))
    np.savez(tmp_path / "x.npz", red=np.zeros((6, 8)), green=np.zeros((6, 8)))
    with pytest.raises(ImageError, match=r"2 arrays \(red, green\): name the photo 'image'"):
        open_photo(tmp_path / "x.npz", _spec(2))
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY nothing")
    with pytest.raises(ImageError, match="numpy can read"):
        open_photo(tmp_path / "x.npy", _spec(2))
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ImageError, match="numpy can read"):
        open_photo(tmp_path / "o.npy", _spec(2))
    with pytest.raises(ImageError, match="no such file"):
        open_photo(tmp_path / "none.npy", _spec(2))


def test_channels_to_show_are_counted_from_one():
    pixels = _pixels(5)
    shown = np.asarray(prepare(pixels, _spec(5), show=(5, 1, 2)).photo)
    np.testing.assert_array_equal(shown, pixels[:, :, [4, 0, 1]])
    for wrong in ((0, 1, 2), (6, 1, 2), (1, 2), ()):
        with pytest.raises(ImageError, match="from 1 to 5"):
            check_shown(wrong, 5)


def test_deep_pixels_count_twice(tmp_path):
    Image.fromarray(np.full((4, 8), 40_000, np.uint16)).save(tmp_path / "x.png")
    spec = VARIANTS["logits"].spec.input
    with pytest.raises(ImageError, match=r"8 x 4 pixels \(each counts 2 times.* --max-pixels 64 "):
        open_photo(tmp_path / "x.png", spec, 63)
    assert open_photo(tmp_path / "x.png", spec, 64).picture.size == (8, 4)

"""Opening photos of every kind, and every kind of damage."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from cfcam.runtime.errors import ArrayError, ImageError
from cfcam.runtime.photos.images import find_images, open_image, pixel_limit
from PIL import Image
from shared_data import shared_path

_RED, _BLUE = (220, 30, 20), (10, 40, 200)


def _half_and_half() -> Image.Image:
    """Red at the left, blue at the right, 8 x 4."""
    image = Image.new("RGB", (8, 4), _RED)
    image.paste(_BLUE, (4, 0, 8, 4))
    return image


def _png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """An RGB PNG made by hand, whatever its header claims."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_plain_photo_is_unchanged(tmp_path):
    _half_and_half().save(tmp_path / "a.png")
    opened = open_image(tmp_path / "a.png")
    assert opened.mode == "RGB"
    assert np.array_equal(np.asarray(opened), np.asarray(_half_and_half()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_gives_the_upright_photo(tmp_path, orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0] = 255  # one marked corner tells all eight apart, with the size
    upright[0, 1] = 90
    # What a camera stores so that the tag's instruction restores the upright photo.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    assert np.array_equal(np.asarray(open_image(path)), upright)


def test_damaged_exif_is_no_reason_to_refuse(tmp_path):
    path = tmp_path / "exif.jpg"
    _half_and_half().save(path, exif=b"Exif\x00\x00garbage that is no TIFF header")
    assert open_image(path).size == (8, 4)


def test_palette_and_grey(tmp_path):
    _half_and_half().quantize(4).save(tmp_path / "p.png")
    assert np.asarray(open_image(tmp_path / "p.png"))[0, [0, 7]].tolist() == [list(_RED), list(_BLUE)]
    Image.new("L", (3, 3), 77).save(tmp_path / "l.png")
    assert np.asarray(open_image(tmp_path / "l.png"))[1, 1].tolist() == [77, 77, 77]
    Image.new("1", (3, 3), 1).save(tmp_path / "1.png")
    assert np.asarray(open_image(tmp_path / "1.png"))[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["RGBA", "LA", "PA", "key"])
def test_transparency_is_laid_over_white(tmp_path, kind):
    path = tmp_path / "t.png"
    if kind == "key":  # a palette in which one colour is transparent
        Image.new("P", (2, 1), 0).save(path, transparency=0)
    elif kind == "PA":
        image = Image.new("RGBA", (2, 1), (0, 0, 0, 0)).convert("PA")
        assert np.asarray(open_image(image))[0, 0].tolist() == [255, 255, 255]
        return
    else:
        Image.new("RGBA", (2, 1), (0, 0, 0, 0)).convert(kind).save(path)
    assert np.asarray(open_image(path))[0, 0].tolist() == [255, 255, 255]


def test_half_transparent(tmp_path):
    Image.new("RGBA", (1, 1), (0, 0, 0, 128)).save(tmp_path / "h.png")
    assert np.asarray(open_image(tmp_path / "h.png"))[0, 0].tolist() == [127, 127, 127]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 25700, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert np.asarray(open_image(tmp_path / f"deep.{suffix}"))[0, :, 0].tolist() == [0, 1, 100, 128, 255]


def test_sixteen_bit_colour(tmp_path):
    path = tmp_path / "deep.png"
    path.write_bytes(_png(1, 1, 16, b"\x00" + struct.pack(">3H", 65535, 32896, 0)))
    assert np.asarray(open_image(path))[0, 0].tolist() == [255, 128, 0]


def test_floating_point_and_32_bit_pixels_have_a_range(tmp_path):
    Image.new("F", (2, 2), 0.5).save(tmp_path / "f.tif")
    assert np.asarray(open_image(tmp_path / "f.tif")).ravel().tolist() == [128] * 12  # of 127.5
    for beyond in (Image.new("F", (2, 2), 1.5), Image.new("I", (2, 2), 70000)):
        with pytest.raises(ImageError, match=r"outside the 0:(1|65535) .*--photo-range"):
            open_image(beyond)


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    red, green, blue = (int(v) for v in np.asarray(open_image(tmp_path / "c.jpg"))[4, 4])
    assert red > 200
    assert max(green, blue) < 60


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), _RED).save(tmp_path / "one.png")
    assert np.asarray(open_image(tmp_path / "one.png")).tolist() == [[list(_RED)]]


def test_a_decompression_bomb_names_the_limit(tmp_path):
    # A header that claims 60000 x 60000 pixels, and no data.
    (tmp_path / "bomb.png").write_bytes(_png(60000, 60000, 8, b""))
    with pytest.raises(ImageError, match=r"bomb\.png: has more pixels than the limit of \d{9}"):
        open_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_truncated_jpeg_is_an_error_not_half_a_photo(tmp_path, share, options):
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    path = tmp_path / "cut.jpg"
    Image.fromarray(noise).save(path, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"cut\.jpg: .*(truncated|damaged|not an image|cannot be read)"):
        open_image(path)


def test_a_truncated_png(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    path = tmp_path / "cut.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ImageError, match="truncated or damaged"):
        open_image(path)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match="not an image"):
        open_image(tmp_path / "text.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="empty"):
        open_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="no such file"):
        open_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)
    with pytest.raises(ImageError, match="got int"):
        open_image(3)  # type: ignore[arg-type]


def test_arrays():
    rgb = np.asarray(_half_and_half())
    assert np.array_equal(np.asarray(open_image(rgb)), rgb)
    assert np.asarray(open_image(rgb[:, :, 0]))[0, 0].tolist() == [_RED[0]] * 3
    clear = np.zeros((2, 2, 4), np.uint8)
    assert np.asarray(open_image(clear)).min() == 255
    assert np.array_equal(np.asarray(open_image(rgb[:, ::-1])), rgb[:, ::-1])  # not contiguous
    for bad in (rgb.astype(np.float32), rgb[:, :, :2], rgb[None], np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(ArrayError, match="image array"):
            open_image(bad)  # type: ignore[arg-type]


def test_a_pillow_image_is_not_changed():
    image = Image.new("RGBA", (2, 2), (1, 2, 3, 4))
    opened = open_image(image)
    assert opened is not image
    assert image.mode == "RGBA"


def test_all_shared_photos_open():
    for path in find_images([shared_path("data/photos")]):
        assert open_image(path).mode == "RGB"


def _names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_without_images_stands_for_its_arrays(tmp_path):
    np.save(tmp_path / "bands.npy", np.zeros((4, 4, 5)))
    assert find_images([tmp_path]) == [tmp_path / "bands.npy"]
    Image.new("RGB", (2, 2)).save(tmp_path / "photo.png")  # beside images, an array may be a map or a mask
    assert find_images([tmp_path]) == [tmp_path / "photo.png"]


def test_finding_images(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.jpg", "deeper/c.webp", "odd[1].png"):
        (folder / name).touch()
    assert _names(find_images([folder])) == ["a.jpg", "b.PNG", "odd[1].png"]
    assert _names(find_images([folder / "*"])) == ["a.jpg", "b.PNG", "odd[1].png"]
    assert _names(find_images([f"{folder}/**/*.webp"])) == ["c.webp"]
    assert _names(find_images([f"{folder}/*.txt"])) == ["notes.txt"]  # spelled out
    assert _names(find_images([folder / "odd[1].png"])) == ["odd[1].png"]  # a name, not a pattern
    assert _names(find_images([folder / "b.PNG", folder, f"{folder}/../photos/a.jpg"])) == [
        "b.PNG",
        "a.jpg",
        "odd[1].png",
    ]
    assert _names(find_images([folder / "missing.jpg", folder / "a.jpg"])) == ["missing.jpg", "a.jpg"]
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="no images in this folder"):
        find_images([tmp_path / "none"])
    with pytest.raises(ImageError, match=r"\*\.gif: matches no image files"):
        find_images([f"{folder}/*.gif"])


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    # 49 million pixels by its header, and no data: decoding it would say that it is truncated.
    (tmp_path / "large.png").write_bytes(_png(7000, 7000, 8, b""))
    words = "large.png: has 7000 x 7000 pixels, more than the limit of 40000000: .* --max-pixels 49000000 "
    with pytest.raises(ImageError, match=words):
        open_image(tmp_path / "large.png")
    with pytest.raises(ImageError, match="truncated"):  # as the message says
        open_image(tmp_path / "large.png", max_pixels=49_000_000)
    with pixel_limit(49_000_000), pytest.raises(ImageError, match="truncated"):
        open_image(tmp_path / "large.png")


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_the_limit_is_exact_and_the_advice_works(tmp_path, kind):
    photo = _half_and_half()  # 32 pixels
    photo.save(tmp_path / f"x.{kind}", lossless=True)
    enough = 64 if kind == "webp" else 32
    with pytest.raises(ImageError, match=f"--max-pixels {enough} "):
        open_image(tmp_path / f"x.{kind}", max_pixels=enough - 1)
    assert open_image(tmp_path / f"x.{kind}", max_pixels=enough).size == (8, 4)


def test_arrays_and_open_images_have_the_same_limit():
    for source in (np.zeros((4, 8, 3), np.uint8), _half_and_half()):
        with pytest.raises(ImageError, match="8 x 4 pixels, more than the limit of 31"):
            open_image(source, max_pixels=31)
    for count in (0, -1, 2.5, True, "many"):
        with pytest.raises(ArrayError, match="max_pixels: expected a whole number"):
            open_image(_half_and_half(), max_pixels=count)  # type: ignore[arg-type]


_PEAK = """
import sys
from pathlib import Path
from cfcam.runtime import open_image
assert open_image(sys.argv[1]).size == (6300, 6340)
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_largest_photo_takes_less_than_600_megabytes(tmp_path):
    path = tmp_path / "x.tga"
    with path.open("wb") as file:  # RGBA without compression, and nothing but zeros: they take no time and no room
        file.write(struct.pack("<3B5x4H2B", 0, 0, 2, 0, 0, 6300, 6340, 32, 8))
        file.truncate(18 + 4 * 6300 * 6340)
    done = subprocess.run([sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 600e6


def test_only_formats_that_are_meant_are_read(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("another program was started"))
    data = io.BytesIO()
    _half_and_half().save(data, "EPS")
    (tmp_path / "x.jpg").write_bytes(data.getvalue())
    with pytest.raises(ImageError, match=r"x\.jpg: is not an image of a kind that is read \(avif, bmp, "):
        open_image(tmp_path / "x.jpg")


def test_the_orientation_is_said_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    _half_and_half().save(tmp_path / "x.jpg", exif=exif)
    upright = open_image(tmp_path / "x.jpg")
    assert upright.size == (4, 8)
    assert open_image(upright).size == (4, 8)


def test_bands_give_what_the_whole_image_gives(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (33, 7, 4), np.uint8)
    images = [Image.fromarray(pixels), Image.fromarray(pixels).convert("LA"), Image.fromarray(pixels).quantize(16)]
    images.append(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257))
    whole = [np.asarray(open_image(image)) for image in images]
    monkeypatch.setattr("cfcam.runtime.photos.images._BAND", 20)
    for image, expected in zip(images, whole, strict=True):
        np.testing.assert_array_equal(np.asarray(open_image(image)), expected)


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "zero\0byte.jpg", "\udcff.jpg", "a\ud800.jpg"])
def test_a_name_that_the_system_does_not_take_is_that_photos_error(tmp_path, name):
    (path,) = find_images([str(tmp_path / name)])
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert str(caught.value).isprintable()

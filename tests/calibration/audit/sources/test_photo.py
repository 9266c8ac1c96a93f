"""One photo, whatever holds it."""

import hashlib
import pickle

import numpy as np
import pytest
from cfcam.calibration.audit.sources import Files, Photo
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.errors import ImageError
from cfcam.runtime.photos.preprocess import prepare
from photo_sources import pixels, png
from PIL import Image


def seen(photo, **limits):
    with photo.opened(**limits) as image:
        return np.asarray(Image.open(image) if hasattr(image, "name") or isinstance(image, str) else image)


def test_a_file_its_bytes_and_its_address_have_one_hash_and_one_picture(tmp_path):
    pytest.importorskip("fsspec")
    path = tmp_path / "a.png"
    path.write_bytes(png(pixels(1)))
    for photo in (Photo.of_file(path), Photo("b", path.read_bytes()), Photo("c", f"file://{path}")):
        again = pickle.loads(pickle.dumps(photo))
        assert again.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
        np.testing.assert_array_equal(seen(again), pixels(1))


def test_pixels_are_told_apart_by_value_and_by_shape():
    image = pixels(1)
    assert Photo("a", image).sha256() == Photo("b", image[:, ::-1][:, ::-1]).sha256()
    assert Photo("a", image).sha256() != Photo("a", pixels(2)).sha256()
    assert Photo("a", image).sha256() != Photo("a", image.reshape(64, 48, 3)).sha256()
    np.testing.assert_array_equal(seen(Photo("a", image)), image)


def test_a_copy_of_pixels_or_bytes_is_prepared_to_the_same_tensor_and_a_file_is_its_own(tiny_path, tmp_path):
    spec = read_spec(tiny_path("logits")).input
    path = tmp_path / "a.png"
    path.write_bytes(png(pixels(1)))
    assert Photo.of_file(path).as_file(tmp_path / "b") == path
    for photo in (Photo("a", pixels(1)), Photo("a", pixels(1)[..., 0]), Photo("a", path.read_bytes())):
        with photo.opened() as image:
            expected = prepare(image, spec).tensor
        np.testing.assert_array_equal(prepare(photo.as_file(tmp_path / "copy"), spec).tensor, expected)
    assert not Photo("a", error="gone").as_file(tmp_path / "c").exists()


def test_what_has_no_content_says_so_by_its_name(tmp_path):
    pytest.importorskip("fsspec")
    for photo, words in (
        (Photo("a#1", error="its message is damaged"), "a#1: its message is damaged"),
        (Photo("a#2", b"text"), "a#2: is not an image"),
        (Photo("a#3", b""), "a#3: is empty"),
        (Photo("memory://none/x.png", "memory://none/x.png"), "memory://none/x.png: cannot be read"),
        (Photo("moon://x.png", "moon://x.png"), "moon://x.png: cannot be read"),
    ):
        with pytest.raises(ImageError, match=words):
            seen(photo)
    with pytest.raises(ImageError, match="damaged"):
        Photo("a", error="damaged").sha256()
    with pytest.raises(ImageError, match="a#4: has 64 x 48 pixels"):
        seen(Photo("a#4", png(pixels(1))), max_pixels=100)


def test_files_give_those_that_were_asked_for_in_their_own_order(tmp_path):
    files = Files([tmp_path / name for name in ("b", "a", "c")])
    assert files.names() == [str(tmp_path / name) for name in ("b", "a", "c")]
    assert [photo.content for photo in files.photos({str(tmp_path / "c"), str(tmp_path / "b")})] == [
        tmp_path / "b",
        tmp_path / "c",
    ]

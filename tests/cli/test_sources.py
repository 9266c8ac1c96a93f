"""Images that a user names, and those among them that fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cfcam.cli.sources import failure, find_each, find_some, photo_batch, report_failures, taken_alone
from cfcam.runtime.errors import EngineError, ImageError, SpecError
from cfcam.runtime.photos.preprocess import prepare
from small_photos import corrupt_photos, make_photos
from tiny_model import VARIANTS

SPEC = VARIANTS["logits"].spec.input


def test_every_file_once_and_what_has_no_image_by_name(tmp_path: Path) -> None:
    first, second = make_photos(tmp_path / "photos", 2)
    (tmp_path / "photos" / "link.png").symlink_to(first)
    (tmp_path / "empty").mkdir()
    sources = [str(second), str(first.parent), str(first), str(tmp_path / "empty"), str(tmp_path / "*.jpg")]
    found, failures = find_each(sources)
    assert found[0] == second
    assert len(found) == 2
    assert [entry["image"] for entry in failures] == sources[3:]
    assert all(entry["error"] for entry in failures)


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    assert find_some([str(tmp_path / "*.jpg"), str(tmp_path / "photos")])[0] == photos
    with pytest.raises(ImageError, match=r"\*\.jpg.*; .*\*\.bmp"):
        find_some([str(tmp_path / "*.jpg"), str(tmp_path / "*.bmp")])
    with pytest.raises(ImageError, match="no images"):
        find_some([])


def test_one_that_fails_does_not_stop_the_others() -> None:
    def work(path: Path) -> str:
        if path.name == "b":
            raise EngineError("two\nlines")
        return path.name.upper()

    errors: list[dict[str, str]] = []
    done: list[int] = []
    found = list(taken_alone([Path("a"), Path("b"), Path("c")], work, errors, lambda: done.append(1)))
    assert found == [(Path("a"), "A"), (Path("c"), "C")]
    assert errors == [{"image": "b", "error": "two lines"}]
    assert len(done) == 3

    def wrong_model(path: Path) -> str:
        raise SpecError("no photo's fault")

    with pytest.raises(SpecError):
        list(taken_alone([Path("a")], wrong_model, errors))


def test_a_batch_of_the_first_photos_that_can_be_read(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, 3)
    (corrupt,) = corrupt_photos(tmp_path, 1)
    batch, paths, errors = photo_batch([str(corrupt), *map(str, photos)], 2, SPEC, "the check")
    assert batch is not None
    np.testing.assert_array_equal(batch, np.stack([prepare(path, SPEC).tensor for path in photos[:2]]))
    assert paths == [str(path) for path in photos[:2]]
    assert [entry["image"] for entry in errors] == [str(corrupt)]
    assert photo_batch(None, 2, SPEC, "the check") == (None, [], [])


def test_one_photo_is_no_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photo,) = make_photos(tmp_path, 1)
    (corrupt,) = corrupt_photos(tmp_path, 1)
    with pytest.raises(ImageError, match="the check needs at least two photos that can be read, found 1 in "):
        photo_batch([str(corrupt), str(photo)], 8, SPEC, "the check")
    assert "corrupt0.png" in capsys.readouterr().err


def test_failures_name_their_image_once(capsys: pytest.CaptureFixture[str]) -> None:
    report_failures([failure("a.png", ImageError("a.png: no\nphoto")), failure(Path("b.png"), EngineError("overflow"))])
    assert capsys.readouterr() == ("", "cfcam: error: a.png: no photo\ncfcam: error: b.png: overflow\n")

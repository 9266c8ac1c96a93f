"""Which photos calibrate and which judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration.build.photos import choose_photos
from cfcam.calibration.build.tensor_cache import TensorCache
from cfcam.runtime.contract.spec import InputSpec, ResizeSpec
from cfcam.runtime.errors import ImageError
from cfcam.runtime.photos.preprocess import prepare
from PIL import Image
from small_photos import corrupt_photos, make_photos
from tiny_model import VARIANTS

SPEC = VARIANTS["logits"].spec.input


@pytest.fixture
def cache(tmp_path: Path) -> TensorCache:
    return TensorCache(tmp_path / "cache", SPEC)


def test_the_two_sides_share_no_photo_and_the_seed_decides(tmp_path: Path, cache: TensorCache) -> None:
    photos = make_photos(tmp_path / "photos", 40)
    sets = choose_photos(photos, cache, SPEC, calibrate=12, verify=10)
    assert sets.calibration is not None
    chosen = {path for path, _ in sets.calibration.photos}
    assert (len(chosen), len(sets.gate), sets.apart) == (12, 10, True)
    assert not chosen & set(sets.gate)
    again = choose_photos(photos[::-1], cache, SPEC, calibrate=12, verify=10)
    assert again.calibration is not None
    assert (again.calibration.photos, again.gate) == (sets.calibration.photos, sets.gate)
    other = choose_photos(photos, cache, SPEC, calibrate=12, verify=10, seed=1)
    assert other.calibration is not None
    assert other.calibration.sha256 != sets.calibration.sha256


def test_too_few_are_shared_out_and_very_few_do_both(tmp_path: Path, cache: TensorCache) -> None:
    photos = make_photos(tmp_path / "photos", 30)
    sets = choose_photos(photos, cache, SPEC, calibrate=40, verify=20)
    assert sets.calibration is not None
    assert (sets.calibration.count, len(sets.gate), sets.apart) == (15, 15, True)
    sets = choose_photos(photos, cache, SPEC, calibrate=40, verify=10)
    assert sets.calibration is not None
    assert (sets.calibration.count, len(sets.gate), sets.apart) == (20, 10, True)
    few = choose_photos(photos[:10], cache, SPEC, calibrate=40, verify=20)
    assert few.calibration is not None
    assert (few.calibration.count, len(few.gate), few.apart) == (10, 10, False)
    assert "the same, because there are too few, which flatters" in str(few)
    limited = choose_photos(photos[:24], cache, SPEC, calibrate=3, verify=100)  # what was asked for is never exceeded
    assert limited.calibration is not None
    assert (limited.calibration.count, len(limited.gate), limited.apart) == (3, 21, True)
    only = choose_photos(photos, cache, SPEC, calibrate=0, verify=7)
    assert (only.calibration, len(only.gate)) == (None, 7)
    assert str(only) == "7 photos judge"
    one = choose_photos(photos[:1], cache, SPEC, calibrate=1, verify=1)
    assert str(one).startswith("1 photo calibrates, 1 judges (the same")


def test_ten_corrupt_among_a_hundred_are_left_out_and_named(tmp_path: Path, cache: TensorCache) -> None:
    photos = make_photos(tmp_path / "photos", 90)
    corrupt = corrupt_photos(tmp_path / "photos", 10)
    sets = choose_photos([*photos, *corrupt], cache, SPEC, calibrate=60, verify=30)
    assert sets.calibration is not None
    assert (sets.calibration.count, len(sets.gate)) == (60, 30)  # others took their place
    assert {path for path, _ in sets.failures} == set(corrupt)
    assert all(path.name in str(error) for path, error in sets.failures)
    with pytest.raises(ImageError, match=r"photos: no photo that can be read \(10 tried\): .*corrupt"):
        choose_photos(corrupt, cache, SPEC, calibrate=5, verify=5)


def test_photos_of_one_colour_cannot_calibrate(tmp_path: Path, cache: TensorCache) -> None:
    flat = []
    for level in range(12):
        flat.append(tmp_path / "cards" / f"{level}.png")
        flat[-1].parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40), (level * 20, 255 - level * 20, 7)).save(flat[-1])
    words = "cards: 12 photos calibrate, of one colour only"
    with pytest.raises(ImageError, match=words):
        choose_photos(flat, cache, SPEC, calibrate=12, verify=0)
    padded = InputSpec(**{**vars(SPEC), "resize": ResizeSpec(mode="pad", crop="none")})
    with pytest.raises(ImageError, match=words):
        choose_photos(flat, TensorCache(tmp_path / "cache", padded), padded, calibrate=12, verify=0)
    some = choose_photos([*flat, *make_photos(tmp_path / "photos", 5)], cache, SPEC, calibrate=17, verify=0)
    assert some.calibration is not None
    assert (some.calibration.count, some.calibration.one_colour) == (17, 12)
    assert choose_photos(flat, cache, SPEC, calibrate=0, verify=12).gate  # nothing is learnt from those


def test_one_content_is_one_photo(tmp_path: Path, cache: TensorCache) -> None:
    photos = make_photos(tmp_path / "photos", 12)
    for number, path in enumerate(photos):
        path.with_name(f"copy{number}.png").write_bytes(path.read_bytes())
    copies = sorted((tmp_path / "photos").iterdir())
    sets = choose_photos(copies, cache, SPEC, calibrate=24, verify=0)
    assert sets.calibration is not None
    assert sets.calibration.count == 12
    renamed = make_photos(tmp_path / "others", 12)
    same = choose_photos(renamed, cache, SPEC, calibrate=12, verify=0, seed=5)
    assert same.calibration is not None
    assert same.calibration.sha256 == sets.calibration.sha256


def test_batches_are_the_photos_as_the_model_takes_them(tmp_path: Path, cache: TensorCache) -> None:
    sets = choose_photos(make_photos(tmp_path / "photos", 11), cache, SPEC, calibrate=11, verify=0)
    assert sets.calibration is not None
    batches = list(sets.calibration.batches())
    assert [len(batch) for batch in batches] == [8, 3]
    path, _ = sets.calibration.photos[9]
    assert np.array_equal(batches[1][1], prepare(Image.open(path), SPEC).tensor)
    assert [len(batch) for batch in sets.calibration.batches(4)] == [4, 4, 4]  # the last one filled up

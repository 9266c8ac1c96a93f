"""Ranges: what p = 0 and p = 255 stand for."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import ImageError
from cfcam.runtime.photos.levels import parse_photo_range, to_levels


@pytest.mark.parametrize(
    ("values", "stated", "levels"),
    [
        (np.array([0, 7, 255], np.uint8), None, [0, 7, 255]),
        (np.array([False, True]), None, [0, 255]),
        (np.array([0, 257, 65535], np.uint16), None, [0, 1, 255]),
        (np.array([0, 2047.5, 4095], np.float32), (0, 4095), [0, 127.5, 255]),
        (np.array([-1000, 0, 1000], np.int16), (-1000, 1000), [0, 127.5, 255]),
        (np.array([0, 0.2, 1]), None, [0, 51, 255]),
        (np.array([3, 100], np.uint16), (0, 255), [3, 100]),  # values that are p already
    ],
)
def test_levels(values, stated, levels):
    found, notes = to_levels(values, "photo", stated)
    np.testing.assert_allclose(found, levels, atol=1e-5)
    assert found.dtype == (np.uint8 if values.dtype in (np.uint8, np.bool_) else np.float32)
    assert notes == ()


@pytest.mark.parametrize(
    ("values", "range_"),
    [
        (np.array([0, 70000], np.int32), "0:65535"),
        (np.array([-5, 5], np.int16), "0:65535"),
        (np.array([0.0, 1.001]), "0:1"),
        (np.array([0.0, 255.0]), "0:1"),
    ],
)
def test_values_outside_a_range_that_nobody_stated_are_refused(values, range_):
    with pytest.raises(ImageError, match=f"x.npy: .* outside the {range_} .*--photo-range LOW:HIGH"):
        to_levels(values, "x.npy")


def test_what_is_no_number_is_refused():
    for values in (np.array([0.5, np.nan]), np.array([np.inf]), np.array(["a"]), np.array([1j])):
        with pytest.raises(ImageError):
            to_levels(values, "x.npy", (0, 1))


def test_a_photo_that_uses_little_of_the_assumed_range_is_doubted():
    for values in (np.array([0, 4095], np.uint16), np.array([0, 0.06])):
        (note,) = to_levels(values, "x.png")[1]
        assert "x.png" in note
        assert "--photo-range LOW:HIGH" in note
        assert to_levels(values, "x.png", (0, float(values.max())))[1] == ()  # followed, the advice helps
    assert to_levels(np.array([0, 4096], np.uint16), "x.png")[1] == ()


def test_what_a_stated_range_cuts_off_or_does_not_concern_is_said():
    levels, (note,) = to_levels(np.array([-50, 0, 100, 200], np.int16), "ct.npy", (0, 100))
    assert levels.tolist() == [0, 0, 255, 255]
    assert "50.0%" in note
    same, (note,) = to_levels(np.array([9], np.uint8), "photo.jpg", (0, 4095))
    assert same.tolist() == [9]
    assert "8 bits" in note


def test_parse_photo_range():
    assert parse_photo_range("0:4095") == (0, 4095)
    assert parse_photo_range("-1000:1e3") == (-1000, 1000)
    for text in ("4095", "5:5", "9:1", "0:", "0:inf", "nan:1", "a:b"):
        with pytest.raises(ImageError, match="LOW:HIGH"):
            parse_photo_range(text)

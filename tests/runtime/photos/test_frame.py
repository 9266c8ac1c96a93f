"""The geometry: both directions, rounding, and placing a map."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.contract.spec import InputSpec, ResizeSpec
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.photos.frame import Frame
from hypothesis import given
from hypothesis import strategies as st


def _spec(mode: str, size: int | None = None, height: int = 224, width: int = 224) -> InputSpec:
    crop = "center" if mode == "shorter" else "none"
    resize = ResizeSpec(mode=mode, size=size, crop=crop)  # type: ignore[arg-type]
    return InputSpec(name="x", height=height, width=width, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3, resize=resize)


@pytest.mark.parametrize(
    ("photo", "resized", "offset"),
    [
        ((512, 430), (304, 256), (40, 16)),
        ((353, 640), (256, 464), (16, 120)),
        ((1, 1), (256, 256), (16, 16)),
        ((500, 333), (384, 256), (80, 16)),
        ((501, 333), (385, 256), (80, 16)),  # (385 - 224) / 2 = 80.5 is rounded to the even 80
        ((504, 333), (387, 256), (82, 16)),  # 81.5 to 82
    ],
)
def test_shorter_side_rounding(photo, resized, offset):
    frame = Frame.fit(photo, _spec("shorter", 256))
    assert (frame.resized, frame.offset, frame.input) == (resized, offset, (224, 224))


def test_stretch_and_pad():
    assert Frame.fit((600, 400), _spec("stretch")).seen == (0, 0, 1, 1)
    padded = Frame.fit((600, 400), _spec("pad"))
    assert (padded.resized, padded.offset) == ((224, 149), (0, -38))
    assert padded.seen == (0, 0, 1, 1)
    on = padded.on_photo()
    assert on.sum() == 224 * 149
    assert on[38:187].all()


_SIDES = st.integers(1, 4000)


@given(_SIDES, _SIDES, st.sampled_from(["shorter", "stretch", "pad", "fit"]), st.floats(0, 1), st.floats(0, 1))
def test_there_and_back(width, height, mode, x, y):
    frame = Frame.fit((width, height), _spec(mode, 60 if mode == "shorter" else None, height=40, width=56))
    assert frame.to_photo(*frame.to_input(x, y)) == pytest.approx((x, y), abs=1e-9)
    x0, y0, x1, y1 = frame.seen
    assert 0 <= x0 < x1 <= 1
    assert 0 <= y0 < y1 <= 1


@given(st.integers(30, 300), st.integers(30, 300), st.sampled_from(["shorter", "stretch", "pad", "fit"]))
def test_a_ramp_lands_where_the_geometry_says(width, height, mode):
    """A map that is linear in the photo's own coordinates must come back as those coordinates."""
    frame = Frame.fit((width, height), _spec(mode, 60 if mode == "shorter" else None, height=40, width=56))
    rows, columns = np.mgrid[:40, :56] + 0.5
    for axis in (0, 1):
        truth = ((columns, rows)[axis] + frame.offset[axis]) / frame.resized[axis]
        placed = frame.place(truth.astype(np.float32))
        assert placed.shape == (height, width)
        assert placed.dtype == np.float32
        fractions = np.array([(np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height][axis])
        wanted = np.broadcast_to(fractions[None, :] if axis == 0 else fractions[:, None], placed.shape)
        x, y = frame.to_input((np.arange(width)[None, :] + 0.5) / width, (np.arange(height)[:, None] + 0.5) / height)
        # Inside the outermost centres it is exact; beyond them the border value holds.
        inside = (x >= 0.5) & (x <= 55.5) & (y >= 0.5) & (y <= 39.5)
        assert np.abs(placed - wanted)[inside].max() < 1e-5
        outside = (x < 0) | (x > 56) | (y < 0) | (y > 40)
        assert np.array_equal(np.isnan(placed), np.broadcast_to(outside, placed.shape))


def test_place_scales_down_and_checks():
    frame = Frame.fit((500, 333), _spec("shorter", 256))
    map_ = np.random.default_rng(0).random((224, 224), np.float32)
    before = map_.copy()
    small = frame.place(map_, 100)
    assert small.shape == (67, 100)
    assert np.array_equal(map_, before)
    share = np.isnan(frame.place(map_)).mean()
    assert np.isnan(small).mean() == pytest.approx(share, abs=0.03)
    assert frame.place(map_, 5000).shape == (333, 500)  # never enlarges
    with pytest.raises(ArrayError, match=r"expected shape \(224, 224\)"):
        frame.place(map_[:7, :7])


def test_without_a_photo_nothing_moves():
    map_ = np.random.default_rng(0).random((40, 56), np.float32)
    assert np.array_equal(Frame.whole(56, 40).place(map_), map_)


@pytest.mark.parametrize(
    ("photo", "mode"),
    [
        ((560, 400), "stretch"),  # the input's own shape, 7:5
        ((500, 400), "stretch"),  # 5:4
        ((700, 400), "stretch"),  # 1.75, a quarter more than 1.4
        ((704, 400), "pad"),
        ((448, 400), "stretch"),  # 1.12, a quarter less
        ((444, 400), "pad"),
        ((400, 560), "pad"),
    ],
)
def test_fit_decides_by_the_shape_of_the_photo(photo, mode):
    fitted = Frame.fit(photo, _spec("fit", height=40, width=56))
    assert fitted == Frame.fit(photo, _spec(mode, height=40, width=56))
    assert fitted.left_out == 0


def test_what_is_left_out():
    assert Frame.fit((512, 256), _spec("shorter", 256)).left_out == pytest.approx(1 - 224**2 / (512 * 256))
    assert Frame.fit((512, 256), _spec("pad")).left_out == 0


@pytest.mark.parametrize(
    "frame",
    [
        Frame(photo=(640, 360), resized=(455, 256), offset=(116, 16), input=(224, 224)),  # cropped
        Frame(photo=(300, 200), resized=(224, 149), offset=(0, -37), input=(224, 224)),  # padded
        Frame(photo=(90, 70), resized=(288, 224), offset=(32, 0), input=(224, 224)),  # a photo smaller than the input
        Frame.whole(224, 224),
    ],
)
@pytest.mark.parametrize("size", [None, (800, 700), (37, 29)])
def test_levels_are_the_placed_map_within_two(frame, size):
    size = size or frame.photo
    map_ = np.random.default_rng(0).random((224, 224), np.float32)
    placed = frame.place(map_, size=size)
    levels, (left, top, right, bottom) = frame.place_levels(map_, size)
    assert levels is not None
    assert levels.size == (right - left, bottom - top)
    seen = np.zeros(placed.shape, bool)
    seen[top:bottom, left:right] = True
    assert np.array_equal(seen, ~np.isnan(placed))
    assert np.abs(np.asarray(levels) - placed[top:bottom, left:right] * 255).max() < 2


def test_levels_where_nothing_was_seen_and_of_a_wrong_shape():
    beside = Frame(photo=(4, 4), resized=(100, 100), offset=(14, 14), input=(8, 8))  # between the centres of pixels
    assert np.isnan(beside.place(np.ones((8, 8), np.float32))).all()
    assert beside.place_levels(np.ones((8, 8), np.float32), (4, 4)) == (None, (0, 0, 0, 0))
    with pytest.raises(ArrayError, match="the model's input"):
        Frame.whole(8, 8).place_levels(np.ones((7, 8), np.float32), (8, 8))

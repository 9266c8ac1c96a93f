"""Maps side by side: where the cells are, and what is in them."""

import dataclasses

import numpy as np
import pytest
from cfcam.runtime import ArrayError, Explainer, OutputError
from cfcam.runtime.panel import MOST_MAPS, save_side_by_side, side_by_side
from PIL import Image


@pytest.fixture(scope="module")
def explained(tiny_path):
    photo = Image.new("RGB", (60, 40), (90, 90, 90))
    photo.paste((230, 20, 20), (35, 10, 45, 20))
    with Explainer(tiny_path("logits"), threads=1) as explainer:
        return explainer.explain_classes([photo], ["red", "green", "nothing"], "gradcam")[0]


def places(page, cell):
    """Top left corners at which `cell` stands on the page, pixel by pixel."""
    whole, part = np.asarray(page), np.asarray(cell)
    height, width = part.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(whole[:, :, 0], (height, width))
    near = np.argwhere((windows[:, :, 0, 0] == part[0, 0, 0]) & (windows[:, :, -1, -1] == part[-1, -1, 0]))
    return [(y, x) for y, x in near.tolist() if np.array_equal(whole[y : y + height, x : x + width], part)]


def test_the_photo_and_every_map_stand_in_a_row(explained):
    page = side_by_side(explained, cell_side=240)
    size = (240, 160)
    plain = explained[0].photo.resize(size, Image.Resampling.LANCZOS)
    found = [places(page, cell) for cell in (plain, explained[0].drawn(size), explained[1].drawn(size))]
    assert [len(each) for each in found] == [2, 1, 1]  # the empty map's cell is the photo again
    (first, last), (red,), (green,) = found
    assert first[0] == red[0] == green[0] == last[0]
    assert first[1] < red[1] < green[1] < last[1]


def test_a_seventh_cell_begins_a_new_row(explained):
    six, seven = (side_by_side([explained[0]] * count, cell_side=100) for count in (5, 6))
    assert seven.width == six.width
    assert seven.height > six.height + 60


def test_what_cannot_be_drawn(explained):
    other = dataclasses.replace(explained[0], source="other.jpg")
    for wrong, words in (
        ([], f"expected 1 to {MOST_MAPS} explanations, got 0"),
        ([explained[0]] * (MOST_MAPS + 1), "got 101"),
        ([explained[0], other], "explanations of one photo"),
    ):
        with pytest.raises(ArrayError, match=words):
            side_by_side(wrong)


def test_files(explained, tmp_path):
    for name in ("a.png", "a.jpg"):
        with Image.open(save_side_by_side(explained, tmp_path / name)) as picture:
            assert picture.size == side_by_side(explained).size
    with pytest.raises(OutputError, match="a picture"):
        save_side_by_side(explained, tmp_path / "a.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.png"]

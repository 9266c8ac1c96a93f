from __future__ import annotations

import numpy as np
import pytest
from cfcam.calibration.measures import box_region, cell_regions, mask_region
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.photos.frame import Frame

SQUEEZED = Frame(photo=(20, 10), resized=(10, 10), offset=(0, 0), input=(10, 10))
CROPPED = Frame(photo=(20, 10), resized=(20, 10), offset=(5, 0), input=(10, 10))
PADDED = Frame(photo=(20, 10), resized=(10, 5), offset=(0, -2), input=(10, 10))


def test_a_box_follows_the_frame():
    box = [(0.5, 0.2, 0.8, 0.6)]
    expected = np.zeros((10, 10), bool)
    expected[2:6, 5:8] = True
    np.testing.assert_array_equal(box_region(box, SQUEEZED), expected)
    expected[:] = False
    expected[2:6, 5:10] = True  # photo columns 10 to 16, of which 5 to 15 are seen
    np.testing.assert_array_equal(box_region(box, CROPPED), expected)
    expected[:] = False
    expected[3:5, 5:8] = True  # five rows of photo from row 2 on: centres 3.5 and 4.5 lie in 0.2 to 0.6
    np.testing.assert_array_equal(box_region(box, PADDED), expected)


def test_boxes_are_joined_and_cropped_ones_leave_nothing():
    both = box_region([(0, 0, 0.1, 1), (0.9, 0, 1, 1)], SQUEEZED)
    assert both.sum() == 20
    assert not box_region([(0, 0, 0.2, 1)], CROPPED).any()


@pytest.mark.parametrize("frame", [SQUEEZED, CROPPED, PADDED])
def test_a_mask_of_a_box_is_the_box(frame):
    mask = np.zeros((10, 20), bool)
    mask[2:6, 10:16] = True
    np.testing.assert_array_equal(mask_region(mask, frame), box_region([(0.5, 0.2, 0.8, 0.6)], frame))
    assert mask_region(np.ones((10, 20), bool), PADDED).sum() == 50


def test_cells():
    cells = cell_regions(4, 6, 2)
    assert cells.shape == (4, 4, 6)
    np.testing.assert_array_equal(cells.sum(axis=0), 1)
    assert cells[1, :2, 3:].all()
    assert cells[2, 2:, :3].all()


@pytest.mark.parametrize("box", [(0, 0, 1), (0, 0, 2, 1), (0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5), (0, 0, np.nan, 1)])
def test_bad_boxes(box):
    with pytest.raises(ArrayError, match="box: expected"):
        box_region([box], SQUEEZED)


def test_refused():
    with pytest.raises(ArrayError, match=r"mask: expected bool of shape \(10, 20\)"):
        mask_region(np.ones((20, 10), bool), SQUEEZED)
    with pytest.raises(ArrayError, match="a height and width that it divides"):
        cell_regions(5, 4)

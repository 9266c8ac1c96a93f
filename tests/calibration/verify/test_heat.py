"""Peaks and tops of maps, and when a peak has moved."""

import numpy as np
import pytest
from cfcam.calibration.verify.heat import Heat
from cfcam.calibration.verify.likeness import compare_maps
from cfcam.runtime.cam import normalise

_SIZE = (70, 70)


def _spots(*spots, grid=(7, 7)) -> Heat:
    """A map with (row, column, height) cells, scaled up as a layer's map is."""
    cells = np.zeros(grid, np.float32)
    for row, column, height in spots:
        cells[row, column] = height
    return Heat(normalise(cells, _SIZE))


def test_a_peak_is_a_region_and_not_a_pixel():
    one = _spots((1, 1, 1.0))
    assert one.peak is not None
    assert one.peak.centre == pytest.approx((14.5, 14.5), abs=0.6)
    plateau = _spots((1, 1, 1.0), (1, 2, 1.0))
    assert plateau.peak is not None
    assert plateau.peak.centre == pytest.approx((14.5, 19.5), abs=0.6)
    # The last bit decides which cell of a plateau is the higher one; the peak does not jump.
    tipped = _spots((1, 1, 0.999999), (1, 2, 1.0))
    found = compare_maps(plateau, tipped)
    assert found.peak_distance < 1e-3
    assert found.moved == 0


def test_moved_means_another_place_that_the_other_map_does_not_show():
    left, right = (1, 1), (1, 5)
    base = _spots((*left, 1.0), (*right, 0.5))
    assert compare_maps(base, _spots((*left, 0.5), (*right, 1.0))).moved == 1
    tie = _spots((*left, 1.0), (*right, 0.97))
    assert compare_maps(tie, _spots((*left, 0.97), (*right, 1.0))).moved == 0, "both maps show both places"
    assert compare_maps(tie, _spots((*left, 0.3), (*right, 1.0))).moved == 1, "one place is gone"
    neighbour = compare_maps(_spots((3, 3, 1.0)), _spots((4, 4, 1.0)))
    assert neighbour.moved == 0, "a diagonal neighbour of a 7 x 7 grid"
    assert neighbour.peak_distance == pytest.approx(1 / 7, abs=0.01)
    assert compare_maps(_spots((3, 3, 1.0)), _spots((3, 5, 1.0))).moved == 1


def test_the_top_fifth_takes_no_zeros():
    values = np.zeros((10, 10), np.float32)
    values[0, :5] = 1
    assert Heat(values).top.sum() == 5
    assert Heat(np.arange(100, dtype=np.float32).reshape(10, 10)).top.sum() == 20
    shifted = np.roll(values, 1, axis=1)
    assert compare_maps(Heat(values), Heat(shifted)).iou == 4 / 6

"""Where the cells of a grid lie in a value, in every way of holding them."""

from __future__ import annotations

import numpy as np
from cfcam.export.axes.layout import NCHW, Digit, Layout, in_order, raster

CELLS = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)  # (N, C, H, W)


def test_channels_first_and_last() -> None:
    np.testing.assert_array_equal(NCHW.to_nchw(CELLS), CELLS)
    np.testing.assert_array_equal(Layout("NHWC").to_nchw(CELLS.transpose(0, 2, 3, 1)), CELLS)
    assert Layout("NHWC").grid((4, 6, 3)) == (3, 4, 6)


def test_tokens_in_reading_order_behind_a_prefix() -> None:
    tokens = CELLS.reshape(2, 3, 24).transpose(0, 2, 1)
    with_prefix = np.concatenate([np.full((2, 2, 3), -1), tokens], 1)
    axes = raster(4, 6, 26)
    assert axes == in_order(4, 6, prefix=2)
    assert axes is not None
    np.testing.assert_array_equal(axes.to_nchw(with_prefix), CELLS)
    assert axes.grid((26, 3)) == (3, 4, 6)
    assert raster(4, 6, 20) is None


def test_tokens_sorted_into_windows() -> None:
    """Windows of 2 x 3 cells, window by window, row by row within each."""
    windows = CELLS.reshape(2, 3, 2, 2, 2, 3).transpose(0, 2, 4, 3, 5, 1).reshape(2, 24, 3)
    axes = Layout("NTC", 0, (Digit("H", 2, 2), Digit("W", 3, 2), Digit("H", 1, 2), Digit("W", 1, 3)))
    assert axes.order == [0, 2, 1, 3]
    np.testing.assert_array_equal(axes.to_nchw(windows), CELLS)


def test_tokens_behind_the_grid_are_set_aside() -> None:
    tokens = np.concatenate([CELLS.reshape(2, 3, 24).transpose(0, 2, 1), np.full((2, 1, 3), -1)], 1)
    axes = Layout("NTC", 0, (Digit("H", 1, 4), Digit("W", 1, 6)), suffix=1)
    np.testing.assert_array_equal(axes.to_nchw(tokens), CELLS)

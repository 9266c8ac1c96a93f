"""Segments, and orders that follow the prediction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cfcam.calibration.measures import (
    CentreGaussian,
    Robustness,
)
from cfcam.calibration.measures.robustness import grid_segments, segment_order
from cfcam.runtime.errors import ArrayError


def test_segments():
    grid = grid_segments(5, 4, 2)
    assert grid.tolist() == [[0, 0, 1, 1]] * 3 + [[2, 2, 3, 3]] * 2
    heat = np.zeros((5, 4))
    heat[4, 3], heat[0, :2] = 1, 0.25
    assert segment_order(heat, grid).tolist() == [3, 0, 1, 2]
    gaps = np.where(grid == 1, 7, grid)
    assert segment_order(heat, gaps).tolist() == [3, 0, 2, 7]
    with pytest.raises(ArrayError, match="segments: expected numbers from 0"):
        segment_order(heat, grid - 1)


def test_robustness_tells_following_from_ignoring(toy):
    """Images without anything in them: any channel may have the largest mean, so noise changes the prediction."""
    photos = 0.2 * np.random.default_rng(0).random((12, 3, 16, 16))
    noise = {"levels": (0.02, 0.02, 4.0), "side": 4}
    following = Robustness(toy.predict, toy.explain, **noise)
    rows = following.update(photos)
    assert 2 < np.isfinite(rows["responsiveness"]).sum() < 12
    found = following.compute()
    assert found["consistency"] > 0.8
    assert found["responsiveness"] > 0.2
    assert found["robustness"] == pytest.approx(found["consistency"] * found["responsiveness"])
    ignoring = Robustness(toy.predict, CentreGaussian(), **noise)
    ignoring.update(photos)
    assert ignoring.compute() == {"consistency": 1, "responsiveness": 0, "robustness": 0}


def test_robustness_where_no_prediction_changes(toy, photos):
    measure = Robustness(toy.predict, toy.explain, levels=(1e-4,))
    rows = measure.update(photos, np.broadcast_to(grid_segments(16, 16, 2), (6, 16, 16)))
    np.testing.assert_allclose(rows["consistency"], 1)
    assert np.isnan(rows["responsiveness"]).all()
    assert math.isnan(measure.compute()["robustness"])
    with pytest.raises(ArrayError, match=r"segments: expected shape \(6, 16, 16\)"):
        measure.update(photos, grid_segments(16, 16, 2))

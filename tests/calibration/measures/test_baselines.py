from __future__ import annotations

import numpy as np
import pytest
from cfcam.calibration.measures import CentreGaussian, Random, baselines, pixel_precision
from cfcam.runtime.errors import ArrayError


def test_all_are_maps_that_ignore_the_class(photos):
    one, other = np.zeros(6, int), np.ones(6, int)
    for name, explain in baselines().items():
        maps = explain(photos, one)
        assert maps.shape == (6, 16, 16)
        assert maps.dtype == np.float32
        assert maps.min() >= 0
        assert maps.max() == 1
        if name != "random":
            np.testing.assert_array_equal(maps, explain(photos, other))


def test_centre_by_hand():
    heat = CentreGaussian(0.5)(np.zeros((1, 3, 3, 5)), np.zeros(1, int))[0]
    assert heat[1, 2] == 1
    assert heat[0, 2] == pytest.approx(np.exp(-1 / (2 * 1.5**2)))
    np.testing.assert_allclose(heat, heat[::-1, ::-1])


def test_random_is_seeded_and_new_every_time(photos):
    first, again = Random(seed=4), Random(seed=4)
    one = first(photos, np.zeros(6, int))
    np.testing.assert_array_equal(one, again(photos, np.zeros(6, int)))
    assert np.abs(one - first(photos, np.zeros(6, int))).max() > 0.1


def test_edges_lie_where_the_picture_changes():
    image = np.zeros((1, 3, 64, 64), np.float32)
    image[:, :, :, 40:] = 1
    heat = baselines()["edges"](image, np.zeros(1, int))
    assert heat[0].argmax(axis=1).tolist() == [39] * 64 or heat[0].argmax(axis=1).tolist() == [40] * 64
    border = np.zeros((1, 64, 64), bool)
    border[:, :, 37:43] = True
    assert pixel_precision(heat, border)[0] > 0.99
    assert not baselines()["edges"](np.ones((1, 3, 8, 8)), np.zeros(1, int)).any()


def test_refused():
    with pytest.raises(ArrayError, match="width"):
        CentreGaussian(0)

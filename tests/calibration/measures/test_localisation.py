from __future__ import annotations

import math

import numpy as np
import other_packages
import pytest
from cfcam.calibration.measures import Localisation, energy_inside, pixel_precision, pointing_game
from cfcam.runtime.errors import ArrayError
from sklearn.metrics import average_precision_score


@pytest.fixture(scope="module")
def pairs():
    """Maps of few values, so with many ties, and regions of every size."""
    rng = np.random.default_rng(0)
    maps = np.round(rng.random((20, 9, 11)), 1)
    regions = rng.random((20, 9, 11)) < rng.random((20, 1, 1))
    regions[:, 4, 5] = True
    return maps, regions


def test_by_hand():
    heat = np.array([[[0.1, 0.4], [1.0, 0.5]]])
    left, right = np.array([[[True, False], [True, False]]]), np.array([[[False, True], [False, True]]])
    assert (pointing_game(heat, left)[0], pointing_game(heat, right)[0]) == (1, 0)
    assert energy_inside(heat, left)[0] == pytest.approx(0.55)
    # Ranked 1.0 in, 0.5 out, 0.4 out, 0.1 in: precision 1 and 2/4 where one is found.
    assert pixel_precision(heat, left)[0] == pytest.approx((1 + 0.5) / 2)


def test_precision_equals_scikit_learn_with_ties(pairs):
    maps, regions = pairs
    expected = [average_precision_score(r.ravel(), m.ravel()) for m, r in zip(maps, regions, strict=True)]
    np.testing.assert_allclose(pixel_precision(maps, regions), expected, rtol=1e-12)


def test_equals_quantus(pairs):
    """On maps without tied maxima: there Quantus counts any peak inside as a hit."""
    quantus = other_packages.quantus()
    maps, regions = pairs
    maps = np.random.default_rng(1).random(maps.shape)
    given = {
        "model": None, "x_batch": np.zeros((20, 1, 9, 11)), "y_batch": np.zeros(20, int),
        "a_batch": maps[:, None], "s_batch": regions[:, None], "channel_first": True,
    }  # fmt: skip
    quiet = {"disable_warnings": True, "normalise": False, "abs": False}
    np.testing.assert_allclose(pointing_game(maps, regions), np.array(quantus.PointingGame(**quiet)(**given), float))
    np.testing.assert_allclose(energy_inside(maps, regions), quantus.RelevanceMassAccuracy(**quiet)(**given))


def test_a_constant_map_gets_what_a_guess_gets(pairs):
    _, regions = pairs
    area = regions.mean(axis=(1, 2))
    for level in (0.0, 1.0):
        flat = np.full(regions.shape, level)
        for measure in (pointing_game, energy_inside, pixel_precision):
            np.testing.assert_allclose(measure(flat, regions), area)


def test_equal_peaks_share_the_hit():
    heat = np.array([[[1.0, 1.0, 1.0, 0.2]]])
    assert pointing_game(heat, np.array([[[True, False, False, True]]]))[0] == pytest.approx(1 / 3)


def test_tolerance():
    heat = np.zeros((1, 5, 9))
    heat[0, 2, 6] = 1
    region = np.zeros((1, 5, 9), bool)
    region[0, 2, :3] = True
    assert pointing_game(heat, region, 3)[0] == 0
    assert pointing_game(heat, region, 4)[0] == 1
    assert math.isnan(pointing_game(heat, 0 * region > 0, 4)[0])


def test_what_a_monotone_change_moves(pairs):
    maps, regions = pairs
    sharper = maps**3
    np.testing.assert_allclose(pointing_game(sharper, regions), pointing_game(maps, regions))
    np.testing.assert_allclose(pixel_precision(sharper, regions), pixel_precision(maps, regions))
    blob = np.exp(-((np.mgrid[:9, :9] - 4.0) ** 2).sum(axis=0) / 9)[None]
    assert energy_inside(blob**3, blob > 0.5)[0] > energy_inside(blob, blob > 0.5)[0] + 0.1


def test_no_region_no_value():
    heat, nowhere = np.ones((1, 4, 4)), np.zeros((1, 4, 4), bool)
    for measure in (pointing_game, energy_inside, pixel_precision):
        assert math.isnan(measure(heat, nowhere)[0])


def test_object(pairs):
    maps, regions = pairs
    whole, parts = Localisation(), Localisation()
    whole.update(maps, regions)
    for part in (slice(0, 7), slice(7, 20)):
        parts.update(maps[part], regions[part])
    assert whole.compute() == parts.compute()
    assert set(whole.compute()) == set(whole.columns) == {"pointing_game", "energy_inside", "pixel_precision"}


def test_refused(pairs):
    maps, regions = pairs
    with pytest.raises(ArrayError, match="regions: expected bool of the maps' shape"):
        pixel_precision(maps, regions[:, 1:])
    with pytest.raises(ArrayError, match="got int"):
        pointing_game(maps, regions.astype(int))
    with pytest.raises(ArrayError, match="tolerance"):
        pointing_game(maps, regions, -1)

"""The margin of a grouping, by hand and by changing the activations."""

import math

import numpy as np
import pytest
from cfcam.runtime.methods.cfcam.closeness import closest_decision
from cfcam.runtime.methods.cfcam.method import CfcamSettings, group_channels

SETTINGS = CfcamSettings(last=True, feature_sigma=0.0, neighbour=1, min_samples=2, live_threshold=0.0)


def channels(*degrees):
    """(C, 1, 2): one direction for each channel."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, None].astype(np.float32)


def test_the_nearest_pair_but_the_one_that_makes_the_radius():
    # Nearest neighbours are 10, 10 and 20 degrees away: the radius is that of 10, the next pairs are 20 and 30 apart.
    found = closest_decision(channels(0, 10, 30), SETTINGS)
    assert found == pytest.approx(math.cos(math.radians(10)) - math.cos(math.radians(20)), abs=1e-6)


def test_the_border_of_the_strongest():
    strong = channels(0, 10, 30, 80) * np.array([4, 3, 2, 2 - 1e-3], np.float32)[:, None, None]
    settings = CfcamSettings(
        last=True, feature_sigma=0.0, neighbour=1, min_samples=2, live_threshold=0.0, most_clustered=3
    )
    assert closest_decision(strong, settings) == pytest.approx(1e-3 / 4, rel=1e-3)


def test_nothing_to_compare():
    assert closest_decision(np.zeros((5, 2, 2), np.float32), SETTINGS) == math.inf
    assert closest_decision(channels(3), SETTINGS) == math.inf


def test_smaller_changes_change_no_label():
    random, settings, tried = np.random.default_rng(0), CfcamSettings(last=True), 0
    for _ in range(20):
        maps = (random.random((40, 5, 5)) ** 4).astype(np.float32)
        margin = closest_decision(maps, settings)
        if margin < 1e-5:
            continue
        tried += 1
        labels = group_channels(maps, settings).labels
        moved = maps * (1 + 0.02 * margin * random.standard_normal(maps.shape)).astype(np.float32)
        np.testing.assert_array_equal(group_channels(moved, settings).labels, labels)
    assert tried > 3

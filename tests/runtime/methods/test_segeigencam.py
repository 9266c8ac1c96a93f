"""Seg-Eigen-CAM: by hand, and what it cannot see."""

import numpy as np
from cfcam.runtime.methods import segeigencam


def test_by_hand():
    """abs(G) A is (0, 3, 1, 0) and twice that: less their means, one direction, (1, 2) / sqrt(5)."""
    a = np.array([[[0, 3, 1, 0]], [[0, 6, 1, 0]]], np.float32)
    g = np.array([[[1, -1, 1, 1]], [[1, 1, -2, 1]]], np.float32)
    np.testing.assert_allclose(segeigencam(a, g).map, np.sqrt(5) * np.array([[0, 2, 0, 0]]), atol=1e-6)


def test_the_sign_of_the_gradients_is_not_seen():
    a, g = np.random.default_rng(2).normal(size=(2, 20, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(segeigencam(a, g).map, segeigencam(a, -g).map)
    assert np.abs(segeigencam(a, g).map - segeigencam(a, g**2).map).max() > 0.1, "their size is"

"""Eigen-Grad-CAM: a toy, scikit-learn's PCA, and what the map cannot see."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods import eigencam, eigengradcam
from sklearn.decomposition import PCA


def test_constant_gradients_scale_eigencam():
    a = np.array([[[0, 3, 1, 0]], [[0, 6, 2, 0]]], np.float32)
    ones = np.ones_like(a)
    np.testing.assert_allclose(eigengradcam(a, 3 * ones).map, 3 * eigencam(a, ones).map, atol=1e-5)


@pytest.mark.parametrize("shape", [(80, 5, 6), (12, 9, 7)])
def test_equals_scikit_learn(shape):
    rng = np.random.default_rng(0)
    a, g = rng.normal(size=(2, *shape)).astype(np.float32)
    expected = PCA(1, svd_solver="full").fit_transform((a * g).reshape(len(a), -1).T.astype(np.float64))[:, 0]
    expected *= np.sign(expected[np.abs(expected).argmax()])
    np.testing.assert_allclose(eigengradcam(a, g).map.ravel(), np.maximum(expected, 0), atol=1e-4 * expected.max())


def test_the_class_is_seen_but_not_the_sign():
    a, g, other = np.random.default_rng(2).random((3, 20, 5, 5), np.float32)
    np.testing.assert_allclose(eigengradcam(a, g).map, eigengradcam(a, -g).map, atol=1e-6)
    assert np.abs(eigengradcam(a, g).map - eigengradcam(a, other).map).max() > 0.1

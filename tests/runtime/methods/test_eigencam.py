"""Eigen-CAM: a toy, scikit-learn's PCA, and what the map cannot see."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods import eigencam
from cfcam.runtime.methods.eigencam import first_component
from sklearn.decomposition import PCA


def test_by_hand():
    """Less their means the channels are (-1, 2, 0, -1) and twice that: one direction, (1, 2) / sqrt(5)."""
    a = np.array([[[0, 3, 1, 0]], [[0, 6, 2, 0]]], np.float32)
    np.testing.assert_allclose(eigencam(a, np.ones_like(a)).map, np.sqrt(5) * np.array([[0, 2, 0, 0]]), atol=1e-6)


@pytest.mark.parametrize("shape", [(80, 5, 6), (12, 9, 7)])
def test_equals_scikit_learn(shape):
    rng = np.random.default_rng(0)
    a, g = rng.normal(size=(2, *shape)).astype(np.float32)
    expected = PCA(1, svd_solver="full").fit_transform(a.reshape(len(a), -1).T.astype(np.float64))[:, 0]
    expected *= np.sign(expected[np.abs(expected).argmax()])
    np.testing.assert_allclose(eigencam(a, g).map.ravel(), np.maximum(expected, 0), atol=1e-4 * expected.max())


def test_the_largest_magnitude_is_positive():
    a = np.abs(np.random.default_rng(1).normal(size=(6, 4, 4))).astype(np.float32)
    g = np.ones_like(a)
    a[:, 1, 2] = 0
    low = eigencam(a - 10 * (a.sum(axis=0) == 0), g).map
    assert np.unravel_index(low.argmax(), low.shape) == (1, 2)


def test_the_class_is_not_seen():
    a, g, other = np.random.default_rng(2).random((3, 20, 5, 5), np.float32)
    np.testing.assert_array_equal(eigencam(a, g).map, eigencam(a, other).map)


def test_without_gradients_there_is_no_class_to_explain():
    a = np.random.default_rng(3).random((20, 5, 5), np.float32)
    assert eigencam(a, 0 * a).empty == "all gradients are zero"


def test_the_coordinate_of_largest_magnitude_is_positive():
    channels = np.zeros((2, 1, 4))
    channels[0, 0] = [-9, 1, 4, 4]
    np.testing.assert_allclose(first_component(channels), [[9, 0, 0, 0]], atol=1e-9)


def test_cells_that_are_all_alike_have_none():
    assert not first_component(np.ones((5, 3, 3))).any()
    assert not first_component(np.ones((5, 1, 1))).any()


def test_few_channels_and_few_cells_agree():
    """The small Gram matrix is that of the channels or that of the cells: the first component is the same."""
    few = np.random.default_rng(0).normal(size=(3, 5, 5))
    many = np.concatenate([few, np.zeros((60, 5, 5))])
    np.testing.assert_allclose(first_component(few), first_component(many), atol=1e-9)

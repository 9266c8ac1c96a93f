"""The reference rules against hand-computed toys and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import get_method, gradcam, hirescam, layercam, make_settings

# Two channels on a 1x2 grid, small enough for mental arithmetic.
A = np.array([[[1, 2]], [[3, 1]]], np.float32)
G = np.array([[[2, -1]], [[1, 3]]], np.float32)


def test_gradcam_by_hand():
    # mean gradients 0.5 and 2: (0.5*1 + 2*3, 0.5*2 + 2*1)
    np.testing.assert_allclose(gradcam(A, G).map, [[6.5, 3.0]])


def test_hirescam_by_hand():
    # (2*1 + 1*3, -1*2 + 3*1)
    np.testing.assert_allclose(hirescam(A, G).map, [[5.0, 1.0]])


def test_layercam_by_hand():
    # negative gradients dropped before the sum: (2*1 + 1*3, 0*2 + 3*1)
    np.testing.assert_allclose(layercam(A, G).map, [[5.0, 3.0]])


def test_negative_cells_become_zero():
    np.testing.assert_allclose(gradcam(A, -G).map, [[0.0, 0.0]])
    np.testing.assert_allclose(hirescam(A, np.array([[[-9, 1]], [[0, 0]]], np.float32)).map, [[0.0, 2.0]])


@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    a, g = rng.normal(size=(2, 30, 5, 8)).astype(np.float32)
    expected = {name: np.zeros(a.shape[1:]) for name in ("gradcam", "hirescam", "layercam")}
    for plane, slope in zip(a.astype(np.float64), g.astype(np.float64), strict=True):
        expected["gradcam"] += slope.mean() * plane
        expected["hirescam"] += slope * plane
        expected["layercam"] += np.maximum(slope, 0) * plane
    for name, values in expected.items():
        np.testing.assert_allclose(get_method(name).run(a, g).map, np.maximum(values, 0), rtol=0, atol=1e-4)


def test_gradcam_equals_hirescam_before_pooling():
    rng = np.random.default_rng(0)
    a = rng.random((30, 7, 7), np.float32)
    g = np.broadcast_to(rng.normal(size=(30, 1, 1)), a.shape).astype(np.float32)
    np.testing.assert_allclose(gradcam(a, g).map, hirescam(a, g).map, rtol=1e-4, atol=1e-5)


def test_no_settings():
    with pytest.raises(MethodError, match="takes no settings"):
        make_settings(get_method("hirescam"), {"sigma": 1})

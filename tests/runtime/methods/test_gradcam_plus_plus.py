"""Grad-CAM++ against a hand-computed toy and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import GradCamPlusPlusSettings, get_method, gradcam_plus_plus, make_settings

# Two channels on a 1x2 grid, small enough for mental arithmetic.
A = np.array([[[1, 2]], [[3, 1]]], np.float32)
G = np.array([[[2, -1]], [[1, 3]]], np.float32)


def test_gradcam_plus_plus_by_hand():
    # alpha * ReLU(G) = ReLU(G) / (2 + S G), with S = 3 and 4: 2/8 + 0 and 1/6 + 3/14
    first, second = 1 / 4, 1 / 6 + 3 / 14
    np.testing.assert_allclose(gradcam_plus_plus(A, G).map, [[first + 3 * second, 2 * first + second]], rtol=1e-6)


@pytest.mark.parametrize("eps", [0, 1e-6, 0.5])
@pytest.mark.parametrize("scale", [1, 1e-3, 1e-12])
def test_gradcam_plus_plus_against_a_loop(eps, scale):
    rng = np.random.default_rng(0)
    a, g = np.abs(rng.normal(size=(20, 4, 5))), scale * rng.normal(size=(20, 4, 5))
    expected = np.zeros((4, 5))
    for plane, slope in zip(a, g, strict=True):
        weight = 0.0
        for value in slope.ravel():
            if value > 0:
                weight += value * value**2 / (2 * value**2 + plane.sum() * value**3 + eps)
        expected += weight * plane
    found = gradcam_plus_plus(a, g, GradCamPlusPlusSettings(eps=eps)).map
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-5)


@pytest.mark.parametrize("power", [-40, 40, 60])
def test_gradcam_plus_plus_depends_on_the_product_of_the_scales_only(power):
    rng = np.random.default_rng(4)
    a, g = np.abs(rng.normal(size=(2, 20, 4, 5)).astype(np.float32))
    expected = gradcam_plus_plus(a, g).map
    found = gradcam_plus_plus(np.ldexp(a, power), np.ldexp(g, -power)).map
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    large, larger = (gradcam_plus_plus(np.ldexp(a, power), g).map for power in (60, 100))
    np.testing.assert_allclose(large / large.max(), larger / larger.max(), rtol=1e-5)


def test_channels_without_activation_have_no_say():
    rng = np.random.default_rng(5)
    a, g = np.abs(rng.normal(size=(2, 8, 3, 3)))
    a[5:] = 0
    np.testing.assert_allclose(gradcam_plus_plus(a, g).map, gradcam_plus_plus(a[:5], g[:5]).map, rtol=1e-6)


@pytest.mark.parametrize("eps", [-1, 2, float("nan"), "0", True])
def test_settings_are_checked(eps):
    with pytest.raises(MethodError, match="eps: expected a number from 0 to 1"):
        make_settings(get_method("gradcam++"), {"eps": eps})

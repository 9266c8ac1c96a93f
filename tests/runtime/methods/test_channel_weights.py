"""Grad-CAM++ and XGrad-CAM against hand-computed toys and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import (
    GradCamPlusPlusSettings,
    get_method,
    gradcam,
    gradcam_plus_plus,
    hirescam,
    make_settings,
    xgradcam,
)

# Two channels on a 1x2 grid, small enough for mental arithmetic.
A = np.array([[[1, 2]], [[3, 1]]], np.float32)
G = np.array([[[2, -1]], [[1, 3]]], np.float32)


def test_gradcam_plus_plus_by_hand():
    # alpha * ReLU(G) = ReLU(G) / (2 + S G), with S = 3 and 4: 2/8 + 0 and 1/6 + 3/14
    first, second = 1 / 4, 1 / 6 + 3 / 14
    np.testing.assert_allclose(gradcam_plus_plus(A, G).map, [[first + 3 * second, 2 * first + second]], rtol=1e-6)


def test_xgradcam_by_hand():
    # (2*1 - 1*2) / 3 = 0 and (1*3 + 3*1) / 4 = 1.5
    np.testing.assert_allclose(xgradcam(A, G).map, [[4.5, 1.5]], rtol=1e-6)


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


def test_xgradcam_against_a_loop():
    rng = np.random.default_rng(1)
    a, g = np.abs(rng.normal(size=(20, 4, 5))), rng.normal(size=(20, 4, 5))
    expected = sum(((slope * plane).sum() / plane.sum()) * plane for plane, slope in zip(a, g, strict=True))
    np.testing.assert_allclose(xgradcam(a, g).map, np.maximum(expected, 0), rtol=1e-5, atol=1e-6)


def test_xgradcam_is_gradcam_before_pooling():
    """With a constant gradient the weights are that gradient, and the maps HiResCAM's as well."""
    rng = np.random.default_rng(2)
    a = rng.random((30, 7, 7), np.float32)
    g = np.broadcast_to(rng.normal(size=(30, 1, 1)), a.shape).astype(np.float32)
    for other in (gradcam, hirescam):
        np.testing.assert_allclose(xgradcam(a, g).map, other(a, g).map, rtol=1e-4, atol=1e-5)


def test_xgradcam_keeps_the_evidence_per_channel():
    """The paper's axiom of conservation: the map before the ReLU sums to that of G * A."""
    rng = np.random.default_rng(3)
    a, g = rng.random((10, 4, 4)), np.abs(rng.normal(size=(10, 4, 4)))
    assert xgradcam(a, g).map.sum() == pytest.approx((a * g).sum(), rel=1e-5)


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
    for rule in (xgradcam, gradcam_plus_plus):
        np.testing.assert_allclose(rule(a, g).map, rule(a[:5], g[:5]).map, rtol=1e-6)


@pytest.mark.parametrize("eps", [-1, 2, float("nan"), "0", True])
def test_settings_are_checked(eps):
    with pytest.raises(MethodError, match="eps: expected a number from 0 to 1"):
        make_settings(get_method("gradcam++"), {"eps": eps})

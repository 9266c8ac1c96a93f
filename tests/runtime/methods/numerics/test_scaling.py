from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods.numerics.scaling import as_map, safe_float32, safe_pair, weighted_channels


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e-3, 1.0, 1e5, 1e30, 3e38])
def test_safe_float32_takes_out_a_power_of_two(scale):
    array = (np.array([[1.0, -0.5, 0.0]]) * scale).astype(np.float32)
    scaled, exponent = safe_float32(array)
    assert scaled.dtype == np.float32
    assert 2**-20 <= np.abs(scaled).max() <= 2**20
    np.testing.assert_array_equal(np.ldexp(scaled.astype(np.float64), exponent), array)


def test_safe_float32_of_zeros_and_other_dtypes():
    assert safe_float32(np.zeros(3, np.float16))[0].dtype == np.float32
    assert safe_float32(np.zeros(3))[1] == 0
    scaled, exponent = safe_float32(np.array([1e300, -1e-300]))
    assert scaled.dtype == np.float32
    assert float(scaled[0]) * 2.0**exponent == pytest.approx(1e300)


@pytest.mark.parametrize(("exponent", "kept"), [(0, True), (90, True), (-90, True), (300, False), (-300, False)])
def test_as_map_keeps_the_scale_where_float32_holds_it(exponent, kept):
    values = np.array([[0.0, 1.5, 3.0]], np.float32)
    found = as_map(values, exponent)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found / found[0, 2], values / 3, rtol=1e-6)
    assert (float(found[0, 2]) == 3 * 2.0**exponent) == kept


def test_a_pair_has_the_exponent_of_its_product():
    a, g, exponent = safe_pair(np.array([1e30]), np.array([-1e-20]))
    assert float(a[0]) * float(g[0]) * 2.0**exponent == pytest.approx(-1e10, rel=1e-6)


@pytest.mark.parametrize(("weights", "wider"), [(np.float32, np.float32), (np.float64, np.float64)])
def test_what_is_negative_becomes_zero_in_the_wider_type(weights, wider):
    channels = np.array([[[1, 2]], [[3, 1]]], np.float32)
    found = weighted_channels(np.array([1, -0.5], weights), channels)
    np.testing.assert_array_equal(found, [[0, 1.5]])
    assert found.dtype == wider

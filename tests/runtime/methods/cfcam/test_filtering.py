from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods.cfcam.filtering import gaussian, self_kernel_filter
from scipy.ndimage import gaussian_filter


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.5, 2.0, 7.0])
@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (7, 7), (14, 10), (28, 28)])
def test_gaussian_equals_scipy(grid, sigma):
    maps = np.random.default_rng(0).normal(size=(6, *grid)).astype(np.float32)
    expected = gaussian_filter(maps.astype(np.float64), (0, sigma, sigma), mode="reflect")
    np.testing.assert_allclose(gaussian(maps, sigma), expected, rtol=0, atol=2e-6)


def test_gaussian_keeps_constants_and_means():
    rng = np.random.default_rng(1)
    maps = np.ones((3, 7, 9), np.float32) * rng.normal(size=(3, 1, 1)).astype(np.float32)
    np.testing.assert_allclose(gaussian(maps, 2), maps, rtol=1e-6)
    maps = rng.normal(size=(3, 7, 9)).astype(np.float32)
    np.testing.assert_allclose(gaussian(maps, 2).mean(axis=(1, 2)), maps.mean(axis=(1, 2)), atol=1e-6)


def test_sigma_zero_is_no_filter():
    maps = np.random.default_rng(2).random((3, 4, 4), np.float32)
    np.testing.assert_array_equal(gaussian(maps, 0), maps)


def test_self_kernel_by_hand():
    # 1x1: space exp(-(0.25 + 0.25) / 50), range 1; k / (k + 1e-6) * g
    weight = np.exp(-0.01)
    assert self_kernel_filter(np.array([[3.0]]))[0, 0] == pytest.approx(3 * weight / (weight + 1e-6), rel=1e-12)


def test_self_kernel_even_size_pads_after():
    # On a 1x2 map cell 0 sees both values and cell 1 only its own.
    g = np.array([[0.01, 0.02]])
    space = np.exp(-(0.25 + np.array([1.0, 0.0])) / 50)
    kernel = space * np.exp(-(0.005**2) / 0.02)
    kernel /= kernel.sum() + 1e-6
    expected = [[kernel[0] * 0.01 + kernel[1] * 0.02, kernel[0] * 0.02]]
    np.testing.assert_allclose(self_kernel_filter(g), expected, rtol=1e-9)


def test_self_kernel_of_a_wild_gradient_fades_to_zero():
    # Far from the mean everywhere: the range weight underflows, and 1e-6 keeps 0/0 away.
    np.testing.assert_array_equal(self_kernel_filter(np.array([[1e6, -1e6]])), 0)

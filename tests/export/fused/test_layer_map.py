"""Features, safe magnitudes and maps without clusters; the signed map of `cfcam` is in `test_rule`."""

import numpy as np
import pytest
from cfcam.export.fused.layer_map import features, safe, simple_map
from cfcam.runtime.methods.cfcam.filtering import blurred_features
from cfcam.runtime.methods.cfcam.method import CfcamSettings

from .building import evaluated


@pytest.mark.parametrize("grid", [(7, 6), (14, 12)])
@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_features_are_the_hosts(grid, sigma):
    a = np.random.default_rng(0).random((2, 5, *grid), np.float32)
    (found,) = evaluated(lambda e, v: [features(e, v["a"], CfcamSettings(feature_sigma=sigma))], a=a)
    for i in range(2):
        np.testing.assert_allclose(found[i], blurred_features(a[i], sigma), atol=2e-6)


def test_magnitudes_that_float32_cannot_square_are_brought_back():
    a = np.array([[1, 2], [1e30, -2e30], [1e-30, 0], [0, 0]], np.float32)
    (found,) = evaluated(lambda e, v: [safe(e, v["a"])], a=a)
    np.testing.assert_allclose(found, [[1, 2], [0.5, -1], [1, 0], [0, 0]], rtol=1e-6)
    (apart,) = evaluated(lambda e, v: [safe(e, v["a"], apart=2)], a=a[None])
    np.testing.assert_array_equal(apart[0], found)


def test_gradients_below_zero_count_in_hirescam_alone():
    a = np.array([[[[2.0]], [[3.0]]]], np.float32)
    g = np.array([[[[[1.0]], [[-1.0]]], [[[0.0]], [[1.0]]]]], np.float32)  # of two classes
    maps = [
        evaluated(lambda e, v, m=m: [simple_map(e, m, v["a"], v["g"])], a=a, g=g)[0].reshape(-1).tolist()
        for m in ("gradcam", "hirescam", "layercam")
    ]
    assert maps == [[-1.0, 3.0], [-1.0, 3.0], [2.0, 3.0]]

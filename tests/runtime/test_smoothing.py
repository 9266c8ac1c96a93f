from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import CamResult
from cfcam.runtime.smoothing import Smoothing, as_smoothing, mean_result


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_noise_is_a_share_of_the_images_range(dtype):
    image = np.random.default_rng(0).uniform(-2, 3, (3, 40, 50)).astype(dtype)
    smoothing = Smoothing(copies=6, noise=0.2, seed=1)
    copies = smoothing.noisy(image)
    assert (copies.shape, copies.dtype) == ((6, 3, 40, 50), dtype)
    noise = copies.astype(np.float64) - image.astype(np.float64)
    assert noise.std() == pytest.approx(0.2 * np.ptp(image.astype(np.float64)), rel=0.02)
    assert abs(noise.mean()) < 0.02
    assert np.abs(np.corrcoef(noise.reshape(6, -1)) - np.eye(6)).max() < 0.1, "every copy has its own"
    np.testing.assert_array_equal(copies, smoothing.noisy(image))
    assert (copies != Smoothing(copies=6, noise=0.2, seed=2).noisy(image)).any()
    np.testing.assert_array_equal(Smoothing(copies=2, noise=0).noisy(image), [image, image])


def test_what_people_give():
    assert as_smoothing(None) is None
    assert as_smoothing(5) == Smoothing(copies=5)
    assert as_smoothing({"copies": 3, "noise": 0.2}) == Smoothing(copies=3, noise=0.2)
    assert as_smoothing(Smoothing(seed=4)) == Smoothing(seed=4)
    for wrong, words in [
        (0, "smoothing: copies: expected a whole number of at least 1, got 0"),
        (2.5, "smoothing: copies"),
        ({"noise": -1}, "smoothing: noise: expected a number from 0 to 10"),
        ({"sigma": 1}, "smoothing: .*sigma"),
    ]:
        with pytest.raises(MethodError, match=words):
            as_smoothing(wrong)


def test_the_mean_is_of_maps_before_they_are_normalised():
    maps = [np.array([[1, 0]], np.float32), np.array([[0, 3]], np.float32), np.zeros((1, 2), np.float32)]
    results = [CamResult(one, empty=None if one.any() else "no") for one in maps]
    np.testing.assert_allclose(mean_result(results).map, [[1 / 3, 1]])
    assert mean_result(results).empty is None
    assert mean_result(results[2:] * 2).empty == "no"

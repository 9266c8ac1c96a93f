"""The jittered photo and the map of noise."""

import numpy as np
import pytest
from cfcam.calibration.verify.references import jittered, noise_map
from cfcam.runtime.contract.spec import InputSpec


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_jitter_is_one_grey_level_of_each_channel(layout):
    spec = InputSpec(
        name="x", layout=layout, height=8, width=6, scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4)
    )
    zero = np.zeros(spec.shape(1)[1:], np.float32)
    noise = jittered(zero, spec, 3)
    assert noise.dtype == np.float32
    channel = 0 if layout == "NCHW" else -1
    levels = np.moveaxis(noise, channel, 0) * np.array(spec.std).reshape(3, 1, 1) * 255
    assert set(np.rint(levels).ravel()) == {-1, 0, 1}
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-5)
    np.testing.assert_array_equal(noise, jittered(zero, spec, 3))
    assert (noise != jittered(zero, spec, 4)).any()
    heat = noise_map((7, 7), (40, 30), 3)
    assert (heat.shape, heat.max()) == ((40, 30), 1)
    np.testing.assert_array_equal(heat, noise_map((7, 7), (40, 30), 3))

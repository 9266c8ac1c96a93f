"""From the signed map to the finished one."""

import numpy as np
from cfcam.export.fused.finishing import finished, guided
from cfcam.runtime.cam import normalise
from cfcam.runtime.methods.cfcam.guiding import guide
from cfcam.runtime.methods.cfcam.method import CfcamSettings

from .building import evaluated


def test_guided_as_on_the_host_and_not_by_a_constant():
    random, settings = np.random.default_rng(0), CfcamSettings(gate_offset=0.1)
    signed = random.standard_normal((4, 2, 5, 6)).astype(np.float32)
    detail = random.random((4, 8, 11, 12), np.float32)
    detail[1] = 0
    detail[2] = [[[0.7]], *[[[0.0]]] * 7]  # of one channel, so that no rounding makes cells differ
    detail[3, ::2] = 0
    found, usable = evaluated(lambda e, v: [*guided(e, v["s"], v["d"], settings)], s=signed, d=detail)
    for i, k in np.ndindex(4, 2):
        want, reason = guide(signed[i, k], detail[i], offset=0.1, floor=settings.gate_floor)
        assert bool(usable[i, k]) == (reason is None)
        if reason is None:
            np.testing.assert_allclose(found[i, k], want, atol=1e-5)
    assert usable.tolist() == [[1, 1], [0, 0], [0, 0], [1, 1]]


def test_a_class_that_is_not_there_gives_nothing():
    signed = np.array([[[[1, -1]], [[2, 1]], [[-1, -2]]]], np.float32)
    asked = np.array([[True, False, True]])
    heat, empty = evaluated(lambda e, v: [*finished(e, v["s"], (2, 6), None, v["asked"])], s=signed, asked=asked)
    assert empty.tolist() == [[False, True, True]]
    assert not heat[0, 1:].any()
    np.testing.assert_allclose(heat[0, 0], normalise(np.maximum(signed[0, 0], 0), (2, 6)), atol=1e-6)

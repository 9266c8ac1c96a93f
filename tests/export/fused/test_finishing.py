"""From the signed map to the finished one."""

import numpy as np
import pytest
from cfcam.export.fused.finishing import finished, guided
from cfcam.runtime.cam import normalise
from cfcam.runtime.methods.cfcam.guiding import guide
from cfcam.runtime.methods.cfcam.method import CfcamSettings

from .building import evaluated


@pytest.mark.parametrize("grid", [(11, 12), (10, 12)])
def test_guided_as_on_the_host_and_not_by_a_constant(grid):
    random, settings = np.random.default_rng(0), CfcamSettings(gate_offset=0.1)
    signed = random.standard_normal((4, 2, 5, 6)).astype(np.float32)
    detail = random.random((4, 8, *grid), np.float32)
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


def test_the_guided_map_where_it_can_be_used_and_nothing_where_values_are_not_finite():
    signed = np.random.default_rng(0).standard_normal((2, 2, 3, 4)).astype(np.float32)
    sharp = np.random.default_rng(1).random((2, 2, 6, 8), np.float32)
    usable = np.array([[1, 0], [1, 0]], np.float32)
    sharp[1, 0, 5, 7], sharp[1, 1, 0, 0] = np.inf, np.nan
    heat, empty = evaluated(
        lambda e, v: [*finished(e, v["s"], (9, 8), (v["sharp"], v["usable"]), None)],
        s=signed,
        sharp=sharp,
        usable=usable,
    )
    assert empty.tolist() == [[False, False], [True, True]]
    np.testing.assert_allclose(heat[0, 0], normalise(sharp[0, 0], (9, 8)), atol=1e-6)
    np.testing.assert_allclose(heat[0, 1], normalise(np.maximum(signed[0, 1], 0), (9, 8)), atol=1e-6)
    assert not heat[1].any()

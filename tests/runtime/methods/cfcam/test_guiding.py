"""The guided form against its formulas, written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods import CfcamSettings, get_method
from cfcam.runtime.methods.base import Form
from cfcam.runtime.methods.cfcam.guiding import correlations, guide
from scipy.ndimage import zoom

run = get_method("cfcam").run


def by_hand(coarse, detail, offset, floor):
    """Detail twice as fine as the coarse map, in loops."""
    coarse, detail = coarse.astype(np.float64), detail.astype(np.float64)
    height, width = coarse.shape
    weighted = np.zeros(detail.shape[1:])
    for channel in detail:
        norm = np.sqrt((channel**2).sum())
        if norm == 0:
            continue
        pooled = np.array(
            [[channel[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(width)] for i in range(height)]
        )
        r = 0.0 if np.ptp(pooled) < 1e-9 else np.corrcoef(pooled.reshape(-1), coarse.reshape(-1))[0, 1]
        weighted += (r + offset) * channel / norm
    fine = np.maximum(weighted, 0)
    enlarged = zoom(np.maximum(coarse, 0), 2, order=1, mode="nearest", grid_mode=True)
    return enlarged * (floor + (1 - floor) * fine / fine.max())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grid", [(7, 7), (3, 5), (1, 6)])
def test_equals_the_formulas(seed, grid):
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=grid).astype(np.float32)
    detail = np.maximum(rng.normal(size=(9, 2 * grid[0], 2 * grid[1])), 0).astype(np.float32)
    detail[3] = 0  # dead
    detail[4] = 1  # constant: no correlation, but a share of the gate
    found, reason = guide(coarse, detail, offset=0.3, floor=0.15)
    assert reason is None
    np.testing.assert_allclose(found, by_hand(coarse, detail, 0.3, 0.15), atol=1e-5)


def test_correlations_are_pearsons():
    rng = np.random.default_rng(0)
    coarse, pooled = rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=(8, 4, 6)).astype(np.float32) * 1e3 + 7
    pooled[5] = 7
    expected = [np.corrcoef(coarse.reshape(-1), one.reshape(-1))[0, 1] for one in pooled.astype(np.float64)[:5]]
    np.testing.assert_allclose(correlations(coarse, pooled)[:5], expected, atol=1e-5)
    assert correlations(coarse, pooled)[5] == 0
    assert not correlations(np.ones((4, 6), np.float32), pooled).any()


def test_a_channel_that_fires_where_the_map_is_sharpens_it():
    coarse = np.array([[1, -1], [-1, -1]], np.float32)
    detail = np.zeros((2, 4, 4), np.float32)
    detail[0, 1, 1] = 1  # inside the cell that counts
    detail[1, 3, 3] = 1  # elsewhere
    found, _ = guide(coarse, detail, offset=0, floor=0.15)
    assert np.unravel_index(found.argmax(), found.shape) == (1, 1)
    assert found[0, 0] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (np.zeros((3, 4, 4), np.float32), "all activations of the detail layer are zero"),
        (np.ones((3, 4, 4), np.float32), "the detail layer is the same everywhere"),
        (-np.ones((3, 4, 4), np.float32), "the detail layer is the same everywhere"),
    ],
)
def test_a_detail_that_is_of_no_use_leaves_the_last_layer_alone(detail, words):
    rng = np.random.default_rng(0)
    a, g = rng.random((6, 2, 2), np.float32), rng.normal(size=(6, 2, 2)).astype(np.float32)
    found = run(a, g, CfcamSettings(), detail=detail)
    np.testing.assert_array_equal(found.map, run(a, g, CfcamSettings()).map)
    assert found.form == Form(guided=False, contrast=0, unguided=words)


@pytest.mark.parametrize(
    ("coarse", "words"),
    [
        ([[1, -1], [-1, -1]], "the detail layer has nothing where the map is"),
        ([[1, 1], [1, 1]], "the last layer's map is the same everywhere"),
    ],
)
def test_weights_that_hang_on_the_class_alone_can_leave_nothing(coarse, words):
    detail = np.zeros((1, 4, 4), np.float32)
    detail[0, 3, 3] = 1
    coarse = np.array(coarse, np.float32)
    found, reason = guide(coarse, detail, offset=0, floor=0.3)
    np.testing.assert_array_equal(found, np.maximum(coarse, 0))
    assert reason == words
    assert guide(coarse, detail, offset=1, floor=0.3)[1] is None


def test_contrast_takes_the_rivals_gradient_off():
    rng = np.random.default_rng(0)
    a, g = rng.random((6, 3, 3), np.float32), rng.normal(size=(6, 3, 3)).astype(np.float32)
    rivals = rng.normal(size=(6, 1, 1)).astype(np.float32)
    for contrast in (0.0, 0.3, 1.0):
        found = run(a, g, CfcamSettings(contrast=contrast), rivals=rivals)
        np.testing.assert_allclose(found.map, run(a, g - np.float32(contrast) * rivals).map, rtol=1e-5)
        assert found.form == Form(contrast=contrast)
    assert run(a, g).form == Form()  # nothing to take off


def test_the_scale_of_the_coarse_map_is_kept():
    rng = np.random.default_rng(0)
    a, g = rng.random((6, 2, 2), np.float32), rng.normal(size=(6, 2, 2)).astype(np.float32)
    detail = rng.random((3, 4, 4), np.float32)
    once, more = (run(a, scale * g, detail=detail).map for scale in (np.float32(1), np.float32(64)))
    np.testing.assert_allclose(more, 64 * once, rtol=1e-5)

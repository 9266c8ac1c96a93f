from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.cam import normalise
from cfcam.runtime.methods.numerics.resizing import resize, shrink, unit_range


def random(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("old", "new"), [((7, 7), (32, 40)), ((3, 5), (17, 11)), ((1, 4), (8, 8)), ((6, 6), (6, 6))])
def test_equals_torch(old, new, align_corners):
    torch = pytest.importorskip("torch", reason="the interpolation to compare with is PyTorch's")
    maps = random(4, *old)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None], new, mode="bilinear", align_corners=align_corners
    )[0].numpy()
    np.testing.assert_allclose(resize(maps, new, align_corners=align_corners), theirs, atol=1e-6)


def test_is_the_resize_of_every_map():
    maps = random(3, 7, 9)
    for one, enlarged in zip(maps, resize(maps, (40, 50)), strict=True):
        np.testing.assert_allclose(normalise(one, (40, 50)), enlarged / enlarged.max(), atol=1e-6)


def test_unit_range():
    maps = 5 * random(3, 4, 4) - 2
    maps[1] = 3
    found = unit_range(maps)
    np.testing.assert_array_equal(found.min(axis=(1, 2)), 0)
    np.testing.assert_allclose(found.max(axis=(1, 2)), [1, 0, 1])
    np.testing.assert_allclose(np.corrcoef(found[0].ravel(), maps[0].ravel())[0, 1], 1)


@pytest.mark.parametrize(("old", "new"), [((14, 14), (7, 7)), ((14, 9), (7, 3)), ((15, 13), (7, 7)), ((4, 4), (4, 4))])
def test_shrinking_averages_areas(old, new):
    """Every cell cut into as many parts as the coarse cells need, which are then averaged whole."""
    maps = np.random.default_rng(0).normal(size=(3, *old)).astype(np.float32)
    fine = maps.repeat(new[0], axis=1).repeat(new[1], axis=2)
    expected = fine.reshape(3, new[0], old[0], new[1], old[1]).mean(axis=(2, 4))
    np.testing.assert_allclose(shrink(maps, new), expected, atol=1e-6)

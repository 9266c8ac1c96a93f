from __future__ import annotations

import numpy as np
import other_packages
import pytest
from cfcam.calibration.measures import cell_regions, choose_groups, energy_inside, make_mosaic
from cfcam.calibration.statistics import TooFewPhotosError
from cfcam.runtime.errors import ArrayError


def test_mosaic_by_hand():
    images = np.arange(4.0)[:, None, None, None] * np.ones((4, 1, 4, 6))
    images[1, 0, :2, :2] = 9
    mosaic = make_mosaic(images)
    assert mosaic.shape == (1, 4, 6)
    np.testing.assert_array_equal(mosaic[0, :2, :3], 0)
    np.testing.assert_array_equal(mosaic[0, :2, 3:], [[9, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(mosaic[0, 2:, 3:], 3)


def test_a_mosaic_means_what_its_photos_mean():
    images = np.random.default_rng(0).random((9, 3, 12, 12))
    mosaic = make_mosaic(images, 3)
    for image, cell in zip(images, cell_regions(12, 12, 3), strict=True):
        np.testing.assert_allclose(mosaic[:, cell].mean(axis=1), image.mean(axis=(1, 2)))


def test_groups():
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 6, 60)
    probabilities = rng.dirichlet(np.full(6, 0.05), 60)
    groups = choose_groups(probabilities, classes, confidence=0.6, seed=3)
    assert groups == choose_groups(probabilities, classes, confidence=0.6, seed=3)
    used = [index for group in groups for index in group]
    assert len(used) == len(set(used)) > 0
    for group in groups:
        assert len(group) == 4
        assert len(set(classes[list(group)])) == 4
    assert (probabilities[used, classes[used]] >= 0.6).all()


def test_as_many_groups_as_there_can_be():
    """Four classes of five photos: five groups, however they are drawn."""
    classes = np.repeat(np.arange(4), 5)
    for seed in range(5):
        assert len(choose_groups(np.eye(4)[classes], classes, seed=seed)) == 5


def test_too_few():
    classes = np.array([0, 1, 2, 2, 2])
    with pytest.raises(TooFewPhotosError, match=r"needs 4 photos .* 5 of 5 photos are, of 3 classes"):
        choose_groups(np.eye(4)[classes], classes)
    with pytest.raises(TooFewPhotosError, match="0 of 8"):
        choose_groups(np.full((8, 4), 0.25), np.arange(8) % 4)


def test_grid_pointing_equals_quantus():
    quantus = other_packages.quantus()
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(2).random((4, 8, 8))
    cells = cell_regions(8, 8)
    given = {
        "model": torch.nn.Identity(), "x_batch": np.zeros((4, 1, 8, 8)), "y_batch": np.zeros(4, int),
        "a_batch": maps[:, None], "custom_batch": np.eye(4), "channel_first": True,
    }  # fmt: skip
    theirs = quantus.Focus(disable_warnings=True, normalise=False)(**given)
    np.testing.assert_allclose(energy_inside(maps, cells), theirs, rtol=1e-6)


def test_refused():
    with pytest.raises(ArrayError, match="needs 4 images"):
        make_mosaic(np.ones((3, 1, 4, 4)))
    with pytest.raises(ArrayError, match="sides it divides"):
        make_mosaic(np.ones((4, 1, 5, 4)))

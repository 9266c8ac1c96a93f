"""The first principal component: its sign, and where there is none."""

from __future__ import annotations

import numpy as np
from cfcam.runtime.methods.numerics.principal_component import first_component


def test_the_coordinate_of_largest_magnitude_is_positive():
    channels = np.zeros((2, 1, 4))
    channels[0, 0] = [-9, 1, 4, 4]
    np.testing.assert_allclose(first_component(channels), [[9, 0, 0, 0]], atol=1e-9)


def test_cells_that_are_all_alike_have_none():
    assert not first_component(np.ones((5, 3, 3))).any()
    assert not first_component(np.ones((5, 1, 1))).any()


def test_few_channels_and_few_cells_agree():
    """The small Gram matrix is that of the channels or that of the cells: the first component is the same."""
    few = np.random.default_rng(0).normal(size=(3, 5, 5))
    many = np.concatenate([few, np.zeros((60, 5, 5))])
    np.testing.assert_allclose(first_component(few), first_component(many), atol=1e-9)

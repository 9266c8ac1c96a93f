"""How alike two maps are, and two groupings."""

import dataclasses
import math

import numpy as np
from cfcam.calibration import class_sensitivity
from cfcam.calibration.verify.heat import Heat
from cfcam.calibration.verify.likeness import Likeness, compare_maps, grouping_agreement
from cfcam.runtime.methods import Grouping


def test_equal_maps_are_exactly_1_and_lost_ones_0():
    heat = Heat(np.random.default_rng(0).random((31, 17), np.float32))
    assert compare_maps(heat, Heat(heat.values.copy())) == Likeness(1.0, 1.0, 1.0, 0.0, 0.0)
    empty = Heat(np.zeros((31, 17), np.float32))
    assert compare_maps(heat, empty) == Likeness(0.0, 0.0, 0.0, 1.0, 1.0)
    assert all(math.isnan(value) for value in dataclasses.astuple(compare_maps(empty, heat)))
    flat = compare_maps(heat, Heat(np.ones((31, 17), np.float32)))
    assert (flat.spearman, flat.pearson) == (0.0, 0.0), "a constant map explains nothing"
    assert class_sensitivity(heat.values, heat.values) == 0
    assert math.isnan(class_sensitivity(heat.values, empty.values))


def test_groups_are_compared_without_channels_that_are_dead_on_both_sides():
    dead = Grouping.DEAD
    first = np.array([0, 0, 1, 1, *[dead] * 50])
    assert grouping_agreement(first, np.array([5, 5, 2, 2, *[dead] * 50])) == 1
    mixed = grouping_agreement(first, np.array([0, 1, 0, 1, *[dead] * 50]))
    assert mixed < 0.1, "fifty dead channels would lift it to nearly 1"
    assert math.isnan(grouping_agreement(first[4:], first[4:]))

"""Components against scipy's."""

import numpy as np
import pytest
from cfcam.export.fused.clusters import NOTHING, Near
from cfcam.export.fused.components import hooked_by_masks, hooked_by_scatter
from scipy.sparse.csgraph import connected_components

from .building import evaluated


@pytest.mark.parametrize("kind", ["chain", "shuffled chain", "sparse", "none", "all"])
@pytest.mark.parametrize("components", [hooked_by_masks, hooked_by_scatter])
def test_each_core_channel_has_the_least_of_its_component(kind, components):
    random, count = np.random.default_rng(0), 150
    order = random.permutation(count) if kind == "shuffled chain" else np.arange(count)
    near = np.eye(count, dtype=bool)
    if "chain" in kind:
        near[order[1:], order[:-1]] = True
    elif kind == "sparse":
        near |= random.random((count, count)) < 0.006
    near |= near.T | (kind == "all")
    core = random.random((3, count)) < [[1.0], [0.8], [0.0]]
    far = np.where(near, -1.0, 2.0**60).astype(np.float32)[None]

    def build(e, values):
        places = e.constant(np.arange(count, dtype=np.float32)[None])
        return [components(e, Near(values["far"], values["core"], places))]

    if components is hooked_by_masks:
        (found,) = evaluated(build, far=far.repeat(3, axis=0), core=core.astype(np.float32))
    else:  # of one image
        found = [evaluated(build, far=far, core=own[None].astype(np.float32))[0][0] for own in core]
    for have, inside in zip(found, core, strict=True):
        places = np.flatnonzero(inside)
        _, labels = connected_components(near[np.ix_(inside, inside)])
        least = [places[labels == label].min() for label in labels]
        np.testing.assert_array_equal(have[inside], least)
        assert (have[~inside] == NOTHING).all()

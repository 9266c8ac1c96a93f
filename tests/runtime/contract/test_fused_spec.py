"""What a `CamSpec` says of finished maps."""

import pytest
from cfcam.runtime.contract.fused_spec import FusedSpec
from cfcam.runtime.errors import SpecError


def test_outputs_and_those_that_the_class_changes():
    plain = FusedSpec(size=(7, 9))
    assert plain.outputs == plain.by_class == ("cam_map", "cam_empty")
    full = FusedSpec(size=(7, 9), guided="g", counts="c", labels="l")
    assert full.outputs == ("cam_map", "cam_empty", "g", "c", "l")
    assert full.by_class == ("cam_map", "cam_empty", "g")  # no class changes a cluster


@pytest.mark.parametrize("size", [(0, 9), (2**20, 2**20)])
def test_sizes_of_no_map(size):
    with pytest.raises(SpecError, match=r"fused\.size"):
        FusedSpec(size=size).validate()

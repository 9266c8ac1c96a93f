"""The table of bounding rules."""

from __future__ import annotations

from cfcam.calibration.certified import supported_operators


def test_the_operators_of_covered_networks_are_there():
    some = {"Conv", "BatchNormalization", "Swish", "HardSwish", "Gemm", "MatMul", "Concat", "MaxPool", "Pad"}
    assert some <= set(supported_operators())

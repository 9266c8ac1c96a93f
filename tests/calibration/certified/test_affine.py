"""Bounds of affine operators."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.calibration.certified import IntervalNetwork
from cfcam.export.errors import UnsupportedOperatorError
from onnx import helper, numpy_helper
from onnx_classifiers import Builder


def one_node(operator: str, *constants: np.ndarray, shape=(1, 4, 6, 6), **attributes):
    weights = [numpy_helper.from_array(np.asarray(value), f"c{i}") for i, value in enumerate(constants)]
    names = ["x", *(w.name for w in weights)]
    node = helper.make_node(operator, names, ["y"], name="it", **attributes)
    x = helper.make_tensor_value_info("x", 1, ["N", *shape[1:]])
    y = helper.make_value_info("y", helper.make_tensor_type_proto(1, None))
    graph = helper.make_graph([node], "one", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_a_single_convolution_reaches_its_bounds():
    """Of one affine layer they are exact: the corner of the ball that the signs of the weights choose."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((2, 4, 6, 6)).astype(np.float32)
    x = random.standard_normal((1, 4, 6, 6))
    bounds = IntervalNetwork(one_node("Conv", weight), "x", ["y"])(x - 0.5, x + 0.5)["y"]
    for channel in range(2):
        worst = (weight[channel].astype(np.float64) * (x + 0.5 * np.sign(weight[channel]))).sum()
        assert 0 <= bounds.high[0, channel, 0, 0] - worst < 1e-4 * np.abs(weight[channel]).sum()


def test_a_weight_that_depends_on_the_image_is_refused():
    b = Builder()
    b("MatMul", "image", b("Transpose", "image", perm=[1, 0]), out="gram")
    model = b.model({"gram": ["N", "N"]}, ["N", 4])
    with pytest.raises(UnsupportedOperatorError, match=r"MatMul node 'n_gram': its input 1 .* depends on the image"):
        IntervalNetwork(model, "image", ["gram"])(np.zeros((1, 4)), np.ones((1, 4)))

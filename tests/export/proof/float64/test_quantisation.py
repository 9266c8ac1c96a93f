"""QuantizeLinear and DequantizeLinear by hand, with and without rounding."""

from __future__ import annotations

import numpy as np
from cfcam.export.proof.float64 import Evaluator
from cfcam.export.proof.float64.quantisation import clip_to_range, dequantize, quantize
from onnx import TensorProto, helper
from small_graphs import make


def test_straight_through_quantisation_clips_without_rounding() -> None:
    parameters = {
        "scale": np.float32(0.5),
        "zero": np.int8(3),
        "weight": np.array([[4, -2]], np.int8),
        "step": np.float32(0.25),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"]),
        helper.make_node("DequantizeLinear", ["t", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["weight", "step"], ["w"]),
        helper.make_node("Mul", ["d", "w"], ["y"]),
    ]
    model = make(nodes, {n: np.asarray(a) for n, a in parameters.items()}, inputs={"x": [2, 1]})
    x = np.array([[0.3], [1000.0]])
    rounded = Evaluator(model).run({"x": x})["y"]
    np.testing.assert_allclose(rounded, [[0.5, -0.5 * 62]])
    smooth = Evaluator(model, straight_through=True).run({"x": x})["y"]
    np.testing.assert_allclose(smooth, [[0.3, -0.5 * 62.25]])


def test_rounding_is_half_to_even_and_saturates() -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
    x = np.array([0.25, 0.75, 1.25, -0.3, 100, -100])
    found = quantize(node, [x, np.array(0.5), np.array(3, np.uint8)], 18)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [3, 5, 5, 2, 203, 0])
    assert quantize(node, [x, np.array(0.5)], 18).dtype == np.uint8  # of no zero point


def test_one_scale_for_each_channel() -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=0)
    x = np.array([[1.0, 300], [1, -3]])
    parameters = [np.array([1.0, 0.25]), np.array([0, 10], np.int8)]
    np.testing.assert_array_equal(quantize(node, [x, *parameters], 18), [[1, 127], [14, -2]])
    back = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=0)
    found = dequantize(back, [np.array([[1, 127], [14, -2]], np.int8), *parameters], 18)
    np.testing.assert_array_equal(found, [[1, 127], [1, -3]])


def test_four_bits_and_forms_that_are_left_to_the_reference_evaluator() -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=TensorProto.INT4)
    np.testing.assert_array_equal(clip_to_range(node, [np.array([1.3, 20, -20]), np.array(0.5)], 21), [2.6, 7.5, -8.5])
    blocked = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], block_size=2)
    eight = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=TensorProto.FLOAT8E4M3FN)
    for left in (blocked, eight):
        assert quantize(left, [np.zeros(4), np.array(0.5)], 21) is NotImplemented
        assert clip_to_range(left, [np.zeros(4), np.array(0.5)], 21) is NotImplemented
    blocked = helper.make_node("DequantizeLinear", ["q", "s"], ["d"], block_size=2)
    assert dequantize(blocked, [np.zeros(4, np.int8), np.array([0.5, 1])], 21) is NotImplemented

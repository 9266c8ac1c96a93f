"""Values of two graphs are matched where they are the same, and left alone where a name only looks so."""

from __future__ import annotations

from typing import Any

import numpy as np
from cfcam.calibration.verify.value_matching import computed_values, match_values
from onnx import GraphProto, TensorProto, helper, numpy_helper


def graph(*nodes: tuple[str, list[str], str], **weights: Any) -> GraphProto:
    """Of (operator, inputs, output), with the input "x"."""
    return helper.make_graph(
        [helper.make_node(operator, inputs, [output]) for operator, inputs, output in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )


BIG = np.arange(16)
PLAIN = graph(("MatMul", ["x", "w"], "a"), ("Relu", ["a"], "b"), ("Relu", ["b"], "cam_relu_value"), w=BIG)


def test_what_is_rounded_on_the_way_is_the_same() -> None:
    rounded = graph(
        ("DequantizeLinear", ["w_quantized", "s"], "w_DequantizeLinear_Output"),
        ("Cast", ["x"], "x_cast"),
        ("MatMul", ["x_cast", "w_DequantizeLinear_Output"], "a"),
        ("QuantizeLinear", ["a", "s"], "a_q"),
        ("DequantizeLinear", ["a_q", "s"], "a_dq"),
        ("Relu", ["a_dq"], "renamed"),
        ("Cast", ["renamed"], "b"),
        w_quantized=BIG,
        s=1,
    )
    found = match_values(rounded, PLAIN, ())
    assert found == {"x": "x", "x_cast": "x", "a": "a", "a_q": "a", "a_dq": "a", "renamed": "b", "b": "b"}
    assert computed_values(rounded) == ["x_cast", "a", "a_dq", "renamed", "b"]


def test_a_number_that_the_exporter_gave_means_nothing() -> None:
    """`cam_relu_value` is another Relu here, unless the contract names it."""
    more = graph(
        ("MatMul", ["x", "w"], "a"),
        ("Relu", ["x"], "cam_relu_value"),
        ("Relu", ["a"], "b"),
        ("Cast", ["b"], "cam_cast_value"),
        ("Relu", ["cam_cast_value"], "cam_relu_value_1"),
        w=BIG,
    )
    assert match_values(more, PLAIN, ()) == {"x": "x", "a": "a", "b": "b", "cam_cast_value": "b"}
    assert match_values(more, PLAIN, ["cam_relu_value"])["cam_relu_value"] == "cam_relu_value"


def test_weights_are_not_computed() -> None:
    turned = graph(
        ("Transpose", ["w"], "t"),
        ("Abs", ["t"], "u"),
        ("MatMul", ["x", "u"], "a"),
        ("Clip", ["a", "", "u"], "b"),
        w=BIG,
    )
    assert computed_values(turned) == ["a", "b"]

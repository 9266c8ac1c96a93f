"""The float64 evaluator: ONNX's own operator cases, PyTorch in float64, precision, and memory."""

from __future__ import annotations

import time

import numpy as np
import pytest
from cfcam.export.errors import UnsupportedOperatorError
from cfcam.export.proof.float64 import Evaluator
from onnx import TensorProto, helper, numpy_helper

ZERO = numpy_helper.from_array(np.zeros(1, np.float32))


def model_of(nodes, inputs, outputs=("y",), initializers=None, kind=TensorProto.FLOAT, opset=18):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kind, shape) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(n, kind, None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (initializers or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def test_a_float32_model_computes_in_float64() -> None:
    """1 + 1e-12 vanishes in float32: weights, constants, casts and function bodies must all be converted."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["back", "one"], ["more"]),
        helper.make_node("Mul", ["more", "weight"], ["scaled"]),
        helper.make_node("Softsign", ["scaled"], ["soft"]),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["zero"], value=numpy_helper.from_array(np.zeros(1, np.float32))
        ),
        helper.make_node("Add", ["soft", "zero"], ["y"]),
    ]
    model = model_of(nodes, {"x": [1]}, initializers={"weight": np.array([2], np.float32), "shape": np.array([1])})
    x = np.array([1e-12])
    found = Evaluator(model).run({"x": x})["y"]
    assert found.dtype == np.float64
    want = 2 * (1 + x) / (1 + 2 * (1 + x))
    np.testing.assert_allclose(found, want, rtol=1e-15)
    assert found != 2 / 3
    assert Evaluator(model, np.float32).run({"x": x})["y"].dtype == np.float32
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT  # the model itself is left alone


def test_bodies_of_control_flow_are_converted_and_see_outer_values() -> None:
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])
    then = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value_floats=[1e-12]), helper.make_node("Add", ["x", "c"], ["v"])],
        "then", [], [value],
    )  # fmt: skip
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["v"])], "else", [], [value])
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)]
    model = model_of(nodes, {"x": [1]}, initializers={"yes": np.array(True)})
    assert Evaluator(model).run({"x": np.array([1.0])})["y"] > 1


def test_an_operator_that_nobody_has_is_named() -> None:
    model = model_of([helper.make_node("Sharpen", ["x"], ["y"], name="edge", domain="vendor")], {"x": [2, 3]})
    model.opset_import.append(helper.make_opsetid("vendor", 1))
    with pytest.raises(
        UnsupportedOperatorError, match=r"vendor::Sharpen node 'edge' cannot be evaluated in float64.*\[2, 3\]"
    ):
        Evaluator(model).run({"x": np.zeros((2, 3))})


def test_values_are_freed() -> None:
    """A chain of 40 sums over 8 MB each must not hold 320 MB."""
    import tracemalloc

    nodes = [helper.make_node("Add", [f"v{i}", "one"], [f"v{i + 1}"]) for i in range(40)]
    nodes.append(helper.make_node("ReduceMax", ["v40"], ["y"], keepdims=0))
    model = model_of(nodes, {"v0": [1 << 20]}, initializers={"one": np.array([1], np.float32)})
    x = np.zeros(1 << 20)
    tracemalloc.start()
    assert Evaluator(model).run({"v0": x})["y"] == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.slow
def test_a_middle_layer_of_a_large_network_takes_seconds() -> None:
    """The five convolutions of a ResNet-50 block pair at 14 x 14, forward and backward sized."""
    rng = np.random.default_rng(0)
    shapes = [(256, 1024, 1, 1), (256, 256, 3, 3), (1024, 256, 1, 1)] * 3
    weights = {f"w{i}": rng.standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)}
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[s[2] // 2] * 4) for i, s in enumerate(shapes)
    ]
    model = model_of(nodes, {"x0": [2, 1024, 14, 14]}, outputs=(f"x{len(shapes)}",), initializers=weights)
    x = rng.standard_normal((2, 1024, 14, 14))
    evaluator = Evaluator(model)
    start = time.process_time()
    evaluator.run({"x0": x})
    assert time.process_time() - start < 10


def test_digits() -> None:
    """Every computed value has float16's digits, whatever its size; what is given has its own."""
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("x", 1, [4])], [value("y", 1, [4])], [two])
    x = np.array([1 / 3, -1e-9 / 7, 70001.0, 0])
    (y,) = Evaluator(helper.make_model(graph), digits=11).run({"x": x}).values()
    scaled = np.array([1, 2.0**30, 2.0**-10, 1])  # into float16's range, by powers of two
    np.testing.assert_array_equal(y * scaled, (2 * x * scaled).astype(np.float16))
